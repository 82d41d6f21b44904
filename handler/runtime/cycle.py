"""One request through an ASGI application, its response sent on as it is made.

https://asgi.readthedocs.io/en/latest/specs/www.html says what application and server tell each other.
"""

import asyncio
import enum
import json

from mangum.types import ASGI, Message, Scope

from handler.runtime.api import Invocation, ResponseStream, RuntimeApi, report
from handler.runtime.http import prelude

# The answer to a request on which the application failed before it had sent anything.
_FAILURE = {"message": "Something went wrong here; it has been logged.", "type": "server_error"}
FAILURE_BODY = json.dumps({"error": {**_FAILURE, "param": None, "code": None}}).encode()


class ApplicationError(Exception):
    """The application does not do what ASGI asks of it."""


class CycleState(enum.Enum):
    """How far the response is.

    * **REQUEST** - the application has sent nothing.
    * **STARTED** - it has sent status and headers, which wait for the first part of the body: until then an error can
      still be answered with a status of its own.
    * **STREAMING** - the first part of the body has been sent on.
    * **COMPLETE** - so has the last one.
    """

    REQUEST = enum.auto()
    STARTED = enum.auto()
    STREAMING = enum.auto()
    COMPLETE = enum.auto()


class HttpCycle:
    """One request and its response; `run` it once."""

    def __init__(self, api: RuntimeApi, invocation: Invocation, scope: Scope, body: bytes) -> None:
        self._api = api
        self._invocation = invocation
        self._scope = scope
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._gone = asyncio.Event()
        self._state = CycleState.REQUEST
        self._start: Message = {}
        self._stream: ResponseStream | None = None

    async def run(self, application: ASGI) -> None:
        """Have the application answer, and see that there is an answer."""
        failure: Exception = ApplicationError("The application returned before its response was complete.")
        try:
            await application(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            failure = error
            report("the application failed", error)
        if self._state is CycleState.STREAMING:
            await self._finish(failure)
        elif self._state is not CycleState.COMPLETE:
            self._start = {"status": 500, "headers": [(b"content-type", b"application/json")]}
            await self._write(FAILURE_BODY)
            await self._finish()

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        match self._state, message["type"]:
            case CycleState.REQUEST, "http.response.start":
                self._start = message
                self._state = CycleState.STARTED
            case ((CycleState.STARTED | CycleState.STREAMING), "http.response.body"):
                await self._write(message.get("body", b""))
                self._state = CycleState.STREAMING
                if not message.get("more_body", False):
                    await self._finish()
            case state, kind:
                raise ApplicationError(f"The application sent {kind} in the state {state.name}.")

    async def _write(self, body: bytes) -> None:
        if self._stream is None:
            beginning = prelude(self._start["status"], self._start.get("headers", []))
            self._stream = await self._api.stream(self._invocation, self._gone)
            await self._stream.write(beginning)
        await self._stream.write(body)

    async def _finish(self, error: Exception | None = None) -> None:
        self._state = CycleState.COMPLETE
        if self._stream is not None:
            await self._stream.end(error)
        self._gone.set()  # a response that is complete ends the exchange, too
