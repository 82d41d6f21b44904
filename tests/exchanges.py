"""One HTTP request to an ASGI application, seen message by message; the client decides when it leaves."""

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message, Scope


class Exchange:
    """Runs a POST against an application, inside a running event loop.

    Attributes:
        sent: the application's messages; `None` after the last one.
    """

    def __init__(self, app: ASGIApp, path: str, body: dict[str, Any] | bytes, **headers: str) -> None:
        self.sent: asyncio.Queue[Message | None] = asyncio.Queue()
        self._received: asyncio.Queue[Message] = asyncio.Queue()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._received.put_nowait({"type": "http.request", "body": data, "more_body": False})
        fields = {"content-type": "application/json", **headers}
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},  # as uvicorn says
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }
        self._task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._received.get, self.sent.put)
        finally:
            await self.sent.put(None)

    def leave(self) -> None:
        """Disconnect."""
        self._received.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int:
        """The status, once the response starts."""
        message = await self.sent.get()
        assert message is not None
        assert message["type"] == "http.response.start"
        status: int = message["status"]
        return status

    async def event(self) -> str:
        """The data of the next event of a streamed response."""
        message = await self.sent.get()
        assert message is not None
        data: str = message["body"].decode()
        assert data.startswith("data: ")
        assert data.endswith("\n\n")
        return data.removeprefix("data: ").removesuffix("\n\n")

    async def body(self) -> bytes:
        """The rest of the body."""
        body = b""
        while (message := await self.sent.get()) is not None:
            body += message["body"]
        return body

    async def finished(self) -> None:
        """Wait until the application has done with the request; what it raised is raised."""
        await self._task


def events_of(body: str) -> list[Any]:
    """The events of a whole body: their JSON, and `"[DONE]"`."""
    *events, rest = body.split("\n\n")
    assert rest == ""
    data = [event.removeprefix("data: ") for event in events]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


def error(message: str, code: str | None, param: str | None = None, kind: str = "invalid_request_error") -> Any:
    """The body of an answer that tells of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
