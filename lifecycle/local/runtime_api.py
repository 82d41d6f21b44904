"""A stand-in for Lambda's side of the Runtime API: hands out invocations, and tells what is answered as it arrives.

Written from https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Unlike the runtime interface emulator,
which collects a streamed response, it passes each chunk on at once, with the time it came, and the trailers at the end.
"""

import asyncio
import json
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import h11

from lifecycle.local.exchange import Exchange, fields_of
from lifecycle.local.invocation import ERROR_TYPE, LocalInvocation

_ROOT = "/2018-06-01/runtime"
_ARN = "arn:aws:lambda:us-east-1:123456789012:function:local"


@dataclass(frozen=True, slots=True)
class Failure:
    """What a function said that could not be initialised or restored."""

    path: str
    kind: str
    document: dict[str, Any]


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
        self._hung_up = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hang_up()
        self._server.close()

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

    async def hang_up(self) -> None:
        """Leave the function alone, now and whenever it asks again, which ends it."""
        self._hung_up = True
        for task in self._exchanges:
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._hung_up:
            writer.close()
            return
        task = asyncio.create_task(self._serve(Exchange(reader, writer)))
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            with suppress(OSError, h11.RemoteProtocolError):
                await self._answer(exchange, await exchange.request())
        finally:
            exchange.close()

    async def _answer(self, exchange: Exchange, request: h11.Request) -> None:
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
                kind = fields_of(request.headers)[ERROR_TYPE]
                self.failures.append(Failure(path, kind, json.loads(await exchange.body())))
                await exchange.answer(202)
            case _:
                await exchange.answer(403)

    async def _hand_out(self, exchange: Exchange) -> None:
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

    async def _listen(self, exchange: Exchange, request: h11.Request, invocation: LocalInvocation, kind: str) -> None:
        invocation.kind = kind
        invocation.headers.update(fields_of(request.headers))
        try:
            finished = await _unless(invocation.abandoned, exchange.listen(invocation.arrive))
            if finished is None:
                return
            invocation.trailers.update(fields_of(finished.headers))
            del self._running[invocation.id]
            await exchange.answer(202)
        finally:
            invocation.finish()


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, h11.EndOfMessage]) -> h11.EndOfMessage | None:
    """What `work` returns, or None if the event comes first."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None
