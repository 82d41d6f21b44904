"""Bounds how many requests are worked on and waiting at once; the next one is refused at the door, its body unread.

Lambda hands an environment one request at a time. Under uvicorn anybody may open connections without end, and without
a bound each would wait for a thread, hold its body in memory and be answered when nobody waits for it any more.
"""

from anyio import to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.authorization import is_open
from handler.api.errors import error_response
from handler.errors import OverCapacityError


class CapacityMiddleware:
    """Refuses what exceeds the capacity with 429; the open paths, which cost next to nothing, are always answered.

    It counts on the event loop alone, so that it needs no lock.
    """

    def __init__(self, app: ASGIApp, capacity: int) -> None:
        self._app = app
        self._capacity = capacity
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if there is a place, and take the place back when it is answered."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        if self._inside >= self._capacity:
            error = OverCapacityError(
                f"At most {self._capacity} requests are worked on or waiting at once, and so many are.", retry_after=1
            )
            await error_response(error)(scope, receive, send)
            return
        # A request occupies at most one thread at a time; with fewer, some that were let in would wait for others.
        threads = to_thread.current_default_thread_limiter()
        threads.total_tokens = max(threads.total_tokens, self._capacity)
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
