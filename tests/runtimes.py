"""A runtime in a thread of its own, in front of the stand-in for Lambda's side of its API."""

import asyncio
import copy
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from mangum.types import ASGI

from handler.runtime.loop import Handler, no_handler, serve
from lifecycle.local.invocation import LocalInvocation
from lifecycle.local.runtime_api import LocalRuntimeApi

PATIENCE = 30.0  # how long a failing test takes

_EVENT = json.loads((Path(__file__).parent / "events" / "function-url.json").read_text())


@asynccontextmanager
async def running(application: ASGI, handler: Handler = no_handler) -> AsyncIterator[LocalRuntimeApi]:
    """Yields Lambda's side; the runtime ends when that does."""

    def run(address: str) -> None:
        with suppress(OSError):
            serve(address, application, handler)

    async with LocalRuntimeApi() as api:
        thread = threading.Thread(target=run, args=[api.address])
        thread.start()
        try:
            yield api
        finally:
            await api.hang_up()
            await asyncio.to_thread(thread.join, PATIENCE)
    assert not thread.is_alive()


def url_event(path: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    """A function URL's event for a POST of JSON."""
    event: dict[str, Any] = copy.deepcopy(_EVENT)
    event["requestContext"]["http"]["path"] = event["rawPath"] = path
    event["headers"].update(headers)
    return event | {"body": json.dumps(body or {}), "isBase64Encoded": False}


def split(answer: bytes) -> tuple[dict[str, Any], bytes]:
    """The prelude of a streamed answer, and its body."""
    head, separator, body = answer.partition(bytes(8))
    assert separator == bytes(8)
    prelude: dict[str, Any] = json.loads(head)
    return prelude, body


async def answer(invocation: LocalInvocation) -> tuple[dict[str, Any], bytes]:
    """Both of an invocation."""
    return split(await asyncio.wait_for(invocation.body(), PATIENCE))
