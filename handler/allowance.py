"""How many tokens whoever asks may still use: reserved before the work begins, given back where it took fewer."""

from typing import Protocol


class Allowance(Protocol):
    """The tokens of one client; its methods may be called from any thread."""

    def reserve(self, tokens: int) -> None:
        """Set aside the most that a request may take.

        Raises:
            TokensPerDayExceededError: fewer are left.
            KeysUnavailableError: nobody knows how many are left.
        """

    def give_back(self, tokens: int) -> None:
        """Return what was reserved and not used; where that fails, the tokens stay used."""


class Unlimited:
    """The allowance of those who are not counted."""

    def reserve(self, tokens: int) -> None:
        """Let everything pass."""

    def give_back(self, tokens: int) -> None:
        """Need nothing back."""


UNLIMITED = Unlimited()
