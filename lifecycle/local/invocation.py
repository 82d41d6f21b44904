"""One invocation of a function on this machine, from the side of whoever invokes: what is asked, and what arrives."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

ERROR_TYPE = "lambda-runtime-function-error-type"
ERROR_BODY = "lambda-runtime-function-error-body"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer, and when it came, on the clock of `time.monotonic()`."""

    data: bytes
    at: float


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
        abandoned: set when nobody waits for the answer any more.
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


def error_in(trailers: dict[str, str]) -> tuple[str, dict[str, Any]] | None:
    """The type and document of the error that ended a streamed response, None if it ended well."""
    if ERROR_TYPE not in trailers:
        return None
    return trailers[ERROR_TYPE], json.loads(base64.b64decode(trailers[ERROR_BODY]))
