"""Tells with every response that needed the model where its time went: the header `Server-Timing`."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handler.api.event_stream import EventStream
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

            async def send_with_timing(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    streamed = headers.get("content-type", "").startswith(EventStream.media_type)
                    if value := timing.header(whole=not streamed):
                        headers[HEADER] = value
                await send(message)

            await self._app(scope, receive, send_with_timing)
