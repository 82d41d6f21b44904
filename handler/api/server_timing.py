"""Tells with every response that needed the model where its time went: the header `Server-Timing`."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.event_stream import EventStream
from handler.api.response_headers import adding_headers
from handler.timing import timed

HEADER = "server-timing"


class ServerTimingMiddleware:
    """Stands before whatever takes time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and have its response say how long it took; a stream says what it knows at its start."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with timed() as timing:

            def add(headers: MutableHeaders) -> None:
                streamed = headers.get("content-type", "").startswith(EventStream.media_type)
                if value := timing.header(whole=not streamed):
                    headers[HEADER] = value

            await self._app(scope, receive, adding_headers(send, add))
