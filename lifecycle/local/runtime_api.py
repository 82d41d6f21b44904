"""A stand-in for Lambda's side of the Runtime API: hands out invocations, and tells what is answered as it arrives.

Written from https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Unlike the runtime interface emulator,
which collects a streamed response, it passes each chunk on at once, with the time it came, and the trailers at the end.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

import h11

_ROOT = "/2018-06-01/runtime"
_ARN = "arn:aws:lambda:us-east-1:123456789012:function:local"
_READ_BYTES = 65_536

ERROR_TYPE = "lambda-runtime-function-error-type"
ERROR_BODY = "lambda-runtime-function-error-body"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer, and when it came, on the clock of `time.monotonic()`."""

    data: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Failure:
    """What a function said that could not be initialised or restored."""

    path: str
    kind: str
    document: dict[str, Any]


@dataclass(eq=False)
class LocalInvocation:
    """An invocation, from the side of whoever invokes: iterate over it for its answer's chunks.

    Attributes:
        event: what the function is given.
        deadline: when Lambda would end it, on the clock of `time.time()`.
        id: of the request.
        kind: `response` or `error`, once the answer begins.
        headers: the answer's, their names in lower case.
        chunks: what has come so far.
        trailers: what came after the last chunk.
    """

    event: Any
    deadline: float
    id: str = field(default_factory=lambda: str(uuid4()))
    kind: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)
    _arrived: "asyncio.Queue[Chunk | None]" = field(default_factory=asyncio.Queue)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._follow()

    async def body(self) -> bytes:
        """The whole answer, when it is there."""
        return b"".join([chunk.data async for chunk in self])

    def abandon(self) -> None:
        """Hang up on the function, as if the client had."""
        self.abandoned.set()

    def arrive(self, data: bytes) -> None:
        """Note a chunk."""
        self.chunks.append(chunk := Chunk(data, time.monotonic()))
        self._arrived.put_nowait(chunk)

    def finish(self) -> None:
        """Note the end."""
        self._arrived.put_nowait(None)

    async def _follow(self) -> AsyncIterator[Chunk]:
        while (chunk := await self._arrived.get()) is not None:
            yield chunk


class LocalRuntimeApi:
    """Listens on a port of this machine, inside a running event loop.

    Attributes:
        failures: what the function said of its initialisation or restoration.
        asked: set when the function has asked for an invocation: it is initialised.
        snapshot: set when it has asked to be put into a snapshot.
        restored: set by whoever wants that to be restored.
    """

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.asked = asyncio.Event()
        self.snapshot = asyncio.Event()
        self.restored = asyncio.Event()
        self._waiting: asyncio.Queue[LocalInvocation] = asyncio.Queue()
        self._running: dict[str, LocalInvocation] = {}
        self._exchanges: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._exchanges:
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    @property
    def address(self) -> str:
        """What `AWS_LAMBDA_RUNTIME_API` should be."""
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def invoke(self, event: Any, seconds: float = 900) -> LocalInvocation:
        """Invoke the function, which answers when it comes to it.

        Args:
            event: what it is given.
            seconds: how long it may take.
        """
        invocation = LocalInvocation(event, time.time() + seconds)
        self._waiting.put_nowait(invocation)
        return invocation

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():  # closed meanwhile
            writer.close()
            return
        task = asyncio.create_task(self._serve(_Exchange(reader, writer)))
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)

    async def _serve(self, exchange: "_Exchange") -> None:
        try:
            with suppress(OSError, h11.RemoteProtocolError):
                await self._answer(exchange, await exchange.request())
        finally:
            exchange.close()

    async def _answer(self, exchange: "_Exchange", request: h11.Request) -> None:
        path = request.target.decode("ascii").removeprefix(_ROOT)
        match path.split("/")[1:]:
            case ["invocation", "next"]:
                await self._hand_out(exchange)
            case ["invocation", request_id, kind] if request_id in self._running:
                await self._listen(exchange, request, self._running[request_id], kind)
            case ["restore", "next"]:
                self.snapshot.set()
                await self.restored.wait()
                await exchange.answer(200)
            case ["init" | "restore", "error"]:
                kind = _fields(request.headers)[ERROR_TYPE]
                self.failures.append(Failure(path, kind, json.loads(await exchange.body())))
                await exchange.answer(202)
            case _:
                await exchange.answer(403)

    async def _hand_out(self, exchange: "_Exchange") -> None:
        self.asked.set()
        invocation = await self._waiting.get()
        self._running[invocation.id] = invocation
        headers = [
            ("Lambda-Runtime-Aws-Request-Id", invocation.id),
            ("Lambda-Runtime-Invocation-Id", f"try-1-of-{invocation.id}"),
            ("Lambda-Runtime-Deadline-Ms", str(int(invocation.deadline * 1000))),
            ("Lambda-Runtime-Invoked-Function-Arn", _ARN),
            ("Lambda-Runtime-Trace-Id", f"Root=1-{invocation.id[:8]}-{invocation.id.replace('-', '')[8:]};Sampled=0"),
        ]
        await exchange.answer(200, headers, json.dumps(invocation.event).encode())

    async def _listen(
        self, exchange: "_Exchange", request: h11.Request, invocation: LocalInvocation, kind: str
    ) -> None:
        invocation.kind = kind
        invocation.headers.update(_fields(request.headers))
        try:
            finished = await _unless(invocation.abandoned, exchange.listen(invocation.arrive))
            if finished is None:
                return
            invocation.trailers.update(_fields(finished.headers))
            del self._running[invocation.id]
            await exchange.answer(202)
        finally:
            invocation.finish()


class _Exchange:
    """A request that comes in, part by part, and its response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.SERVER)

    async def request(self) -> h11.Request:
        event = await self._event()
        if not isinstance(event, h11.Request):
            raise ConnectionResetError("The connection was closed without a request.")
        return event

    async def listen(self, arrive: Callable[[bytes], None]) -> h11.EndOfMessage:
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                arrive(bytes(event.data))
        return event

    async def body(self) -> bytes:
        parts: list[bytes] = []
        await self.listen(parts.append)
        return b"".join(parts)

    async def answer(self, status: int, headers: list[tuple[str, str]] | None = None, body: bytes = b"") -> None:
        fields = [*(headers or []), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=status, headers=fields), h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self._protocol.send(event) or b"")
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    async def _event(self) -> h11.Event:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await self._reader.read(_READ_BYTES))
        if isinstance(event, h11.ConnectionClosed | type):  # h11.PAUSED is a type: there is no second request
            raise ConnectionResetError("The connection was closed.")
        return event


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, h11.EndOfMessage]) -> h11.EndOfMessage | None:
    """What `work` returns, or None if the event comes first."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None


def error_in(trailers: dict[str, str]) -> tuple[str, dict[str, Any]] | None:
    """The type and document of the error that ended a streamed response, None if it ended well."""
    if ERROR_TYPE not in trailers:
        return None
    return trailers[ERROR_TYPE], json.loads(base64.b64decode(trailers[ERROR_BODY]))


def _fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in headers}
