"""Notices that a client went away while its request is worked on, and cancels what was begun for it."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handler.cancellation import Cancellation


class DisconnectMiddleware:
    """Puts a `Cancellation` into the request's state, and speaks it when the client disconnects.

    It stands behind the middleware that reads the body, which hands it out in one piece.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch the client while the application works."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cancellation = scope.setdefault("state", {})["cancellation"] = Cancellation()
        body: list[Message] = [await receive()]
        gone = asyncio.Event()

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            cancellation.request()
            gone.set()

        async def replay() -> Message:
            if body:
                return body.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        watcher = asyncio.create_task(watch())
        try:
            await self._app(scope, replay, send)
        finally:
            watcher.cancel()
