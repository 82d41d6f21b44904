"""A backend's own thread: the first request starts it, and it ends where there is nothing to do, or the process does.

Python stops the threads of a process that ends wherever they are. One that is inside torch then takes the process down
with an abort, after all its answers were given. So every backend is closed before that.
"""

import atexit
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from handler.errors import EngineUnavailableError

# After so many failures in a row, without a single success in between, the next request will fail, too: an error of a
# GPU stays with its process.
_MOST_FAILURES: Final = 3

_backends: "WeakSet[OwnThread]" = WeakSet()


class OwnThread:
    """What a backend with a thread has: a lock, ways to end the thread from others, and a count of failures."""

    def __init__(self) -> None:
        """Have no thread yet."""
        self._failures = 0  # in a row
        self._wake = threading.Condition()  # guards what follows
        self._thread: threading.Thread | None = None
        self._closed = self._resting = self._retired = False
        _backends.add(self)

    def check(self) -> None:
        """See whether the next request can be expected to be answered.

        Raises:
            EngineUnavailableError: so many before it have failed that it will, too.
        """
        if self._failures >= _MOST_FAILURES:
            raise EngineUnavailableError(f"The engine has failed {self._failures} times in a row.")

    def rest(self) -> None:
        """Finish what is under way and hold no thread, nor what it needs, until the next request."""
        with self._wake:
            self._resting = True
            self._wake.notify_all()
            while self._thread is not None and self._resting:  # a request that comes meanwhile ends the rest
                self._wake.wait()

    def retire(self) -> None:
        """Finish what is under way, and from now on hold no thread while there is nothing to do.

        Whoever still has this backend may use it; when nobody has it any more, nothing is left of it.
        """
        with self._wake:
            self._retired = True
            self._wake.notify_all()
            self._wait_for_end()

    def close(self) -> None:
        """Stop the thread; whatever is under way ends with an error."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
            self._wait_for_end()

    def _refuse_if_closed(self) -> None:
        """Raise a RuntimeError if the backend was closed; whoever calls holds the lock."""
        if self._closed:
            raise RuntimeError("the backend is closed")

    def _awake(self, run: Callable[[], None], name: str) -> None:
        """Be at work, on a thread that runs `run`; whoever calls holds the lock."""
        self._resting = False
        if self._thread is None:
            thread = threading.Thread(target=run, name=name, daemon=True)
            thread.start()  # a process may have no room for another
            self._thread = thread
        self._wake.notify_all()

    def _may_end(self) -> bool:
        """Whether the thread is to end as soon as it has nothing to do; whoever calls holds the lock."""
        return self._resting or self._retired or self._closed

    def _ended(self) -> None:
        """Say that the thread has ended, as its last act; whoever calls holds the lock."""
        self._thread = None
        self._wake.notify_all()

    def _wait_for_end(self) -> None:
        while self._thread is not None:
            self._wake.wait()


@atexit.register
def _close_all() -> None:
    for backend in list(_backends):
        backend.close()
