"""Prompt-lookup decoding: guesses the next tokens by what followed the same words before.

Text repeats itself: names, phrases of the prompt, rows of a table. Where the last tokens have occurred before, the
tokens that followed them are a draft (Saxena 2023, "Prompt Lookup Decoding",
https://github.com/apoorvumang/prompt-lookup-decoding). An engine reads a draft of several tokens in one step that takes
little longer than a step for one, and each token that turns out to be the one chosen is a step saved. Drafts decide
nothing about the text, only how many steps it takes.
"""

from collections.abc import Sequence
from typing import Final

# The longest piece of text that is looked for first. A single token occurs again too often to say what follows.
NGRAM_SIZES: Final = (3, 2)

LONGEST_DRAFT: Final = 7

# A draft of one token that fails costs a few per cent of a step, so one such in so many steps is not felt.
PAUSE: Final = 16


class Drafter:
    """Drafts for one sequence, as long as drafts have lately been right.

    The longest draft doubles when all of one was right and halves when none was; when not even one token was, nothing
    is drafted for the next `PAUSE` tokens.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tokens = list(prompt)
        # For each n-gram, the index of the token after its latest occurrence. The n-gram at the very end has none yet.
        self._following: dict[tuple[int, ...], int] = {}
        self._indexed = 0  # tokens that have been looked at as the one that follows
        self._longest = 2
        self._paused_until = 0  # the number of tokens

    def add(self, token: int) -> None:
        """Note the next token of the sequence."""
        self._tokens.append(token)

    def propose(self, limit: int) -> list[int]:
        """Guess at most `limit` tokens, perhaps none."""
        tokens = self._tokens
        longest = min(limit, self._longest)
        if longest <= 0 or len(tokens) < self._paused_until:
            return []
        self._index()
        for size in NGRAM_SIZES:
            start = self._following.get(tuple(tokens[-size:]))
            if start is not None:
                # Where what followed reaches up to the end, the text repeats itself, and so does the draft.
                followed = tokens[start : start + longest]
                return [followed[i % len(followed)] for i in range(longest)]
        return []

    def checked(self, proposed: int, accepted: int) -> None:
        """Learn how many tokens of the last draft were right; the sequence has them by now."""
        if accepted == proposed:
            self._longest = min(2 * self._longest, LONGEST_DRAFT)
        else:
            self._longest = max(accepted, self._longest // 2)
        if self._longest == 0:
            self._longest = 1
            self._paused_until = len(self._tokens) + PAUSE

    def _index(self) -> None:
        """Note what each n-gram is followed by, for the tokens added since the last time."""
        for i in range(self._indexed, len(self._tokens)):
            for size in NGRAM_SIZES:
                if i >= size:
                    self._following[tuple(self._tokens[i - size : i])] = i
        self._indexed = len(self._tokens)
