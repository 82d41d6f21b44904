"""A client of S3 to which something happens in the middle: an interruption, or somebody else."""

from typing import Any

from lifecycle.store import WritableStore


class InterruptedPublisherError(Exception):
    """The publisher's process ends here."""


class MeddledClient:
    """A client before (or, with `after`, behind) whose n-th call of a method, or each, something happens."""

    def __init__(self, client: Any, method: str, number: int | None, meddle: Any, *, after: bool = False) -> None:
        self._client, self._method, self._number = client, method, number
        self._meddle, self._after, self._calls = meddle, after, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if name != self._method:
            return real

        def call(**request: Any) -> Any:
            self._calls += 1
            due = self._number in (None, self._calls)
            if due and not self._after:
                self._meddle()
            answer = real(**request)
            if due and self._after:
                self._meddle()
            return answer

        return call


def meddled(
    store: WritableStore, method: str, number: int | None, meddle: Any, *, after: bool = False
) -> WritableStore:
    return WritableStore(MeddledClient(store.client, method, number, meddle, after=after), store.bucket)  # type: ignore[arg-type]


def interrupt() -> None:
    raise InterruptedPublisherError
