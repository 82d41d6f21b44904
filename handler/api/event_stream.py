"""Server-sent events, made by a thread and sent by the event loop, which waits for nothing.

Events (https://html.spec.whatwg.org/multipage/server-sent-events.html) are used as OpenAI's API does: each is a line
`data: JSON`, the last one `data: [DONE]`, or `data: {"error": ...}` where something went wrong on the way. What goes
wrong before the first event is answered with its proper status.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from anyio import to_thread
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from handler.api.errors import told
from handler.cancellation import Cancellation
from handler.errors import CancelledRequestError

# For the API's description, as OpenAPI has it from version 3.2 on.
_EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"itemSchema": _EVENT}}, "description": "The answer."}
}


class EventStream(Response):
    """A response whose events leave as they are made."""

    media_type = "text/event-stream"

    def __init__(self, events: Iterator[str], cancellation: Cancellation) -> None:
        """Prepare to send.

        Args:
            events: the events' JSON; iterated in a thread of its own, where computing one may take its time.
            cancellation: makes `events` end, when the response does before them.
        """
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._cancellation = cancellation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send the events.

        Raises:
            Exception: what `events` raised before its first event.
        """
        loop = asyncio.get_running_loop()
        # Without a bound: a slow client costs the memory of its answer, and nobody else's time.
        made: asyncio.Queue[str | Exception | None] = asyncio.Queue()

        def make() -> None:
            end: Exception | None = None
            try:
                for event in self._events:
                    loop.call_soon_threadsafe(made.put_nowait, event)
            except Exception as error:  # noqa: BLE001 - it is told to the client below
                end = error
            loop.call_soon_threadsafe(made.put_nowait, end)

        thread = asyncio.ensure_future(to_thread.run_sync(make))
        try:
            await self._send(made, send)
        finally:
            self._cancellation.request()
            await thread

    async def _send(self, made: "asyncio.Queue[str | Exception | None]", send: Send) -> None:
        event = await made.get()
        if isinstance(event, Exception):
            raise event
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while isinstance(event, str):
            await send({"type": "http.response.body", "body": _line(event), "more_body": True})
            event = await made.get()
        if isinstance(event, CancelledRequestError):
            return  # nobody listens any more
        last = _line("[DONE]") if event is None else error_event(event)
        await send({"type": "http.response.body", "body": last, "more_body": False})


def error_event(error: Exception) -> bytes:
    """The last event of a stream that something has gone wrong with."""
    return _line(json.dumps(told(error).body()))


def _line(data: str) -> bytes:
    return f"data: {data}\n\n".encode()
