"""How a client that has gone away stops what was begun for it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from handler.errors import CancelledRequestError


class Cancellation:
    """The wish to stop: spoken in one thread (the event loop's), carried out wherever the work is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: list[Callable[[], None]] = []
        self._requested = False

    def request(self) -> None:
        """Stop what is under way, and whatever is begun later."""
        with self._lock:
            self._requested = True
            stops = list(self._stops)
        for stop in stops:
            stop()

    def check(self) -> None:
        """Go on only if nobody wished to stop.

        Raises:
            CancelledRequestError: somebody did.
        """
        if self._requested:
            raise CancelledRequestError("The client has gone away.")

    @contextmanager
    def stopping_by(self, stop: Callable[[], None]) -> Iterator[None]:
        """Have `stop` called, from any thread, when the wish comes while the block runs, or has come already."""
        with self._lock:
            self._stops.append(stop)
            requested = self._requested
        try:
            if requested:
                stop()
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)
