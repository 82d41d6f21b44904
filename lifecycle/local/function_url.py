"""A function URL in front of the function's own process: HTTP in, an event to our runtime, its chunks out as they come.

It plays what AWS puts between client and function: an event of payload format 2.0
(https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html), the stand-in for the Runtime API, and the prelude
taken off again. As there is one environment, requests are answered one after the other; Lambda would start more.
"""

import asyncio
import base64
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from lifecycle.local.invocation import Chunk, LocalInvocation
from lifecycle.local.invoke import STREAMING
from lifecycle.local.runtime_api import LocalRuntimeApi

HOST = "127.0.0.1"

SEPARATOR = bytes(8)

# What AWS says when a function has failed rather than answered; why is in the function's log.
_FAILED: dict[str, Any] = {"statusCode": 502, "headers": {"content-type": "application/json"}}
_FAILED_BODY = b'{"message":"Internal Server Error"}'


class FunctionUrl:
    """The URL, as an ASGI application."""

    def __init__(self, api: LocalRuntimeApi) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the function answer, and pass its answer on."""
        invocation = self._api.invoke(event_of(scope, await _body(receive)))
        watcher = asyncio.create_task(_hang_up_with(receive, invocation))
        try:
            await _pass_on(invocation, send)
        finally:
            watcher.cancel()
            invocation.abandon()


def event_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """A request as the event that a function URL without authorization of its own makes of it."""
    headers: dict[str, str] = {}
    for name, value in Headers(scope=scope).items():
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    cookies = [cookie.strip() for cookie in headers.pop("cookie", "").split(";") if cookie.strip()]
    path = scope["raw_path"].decode("ascii")
    name = "local.lambda-url.us-east-1.on.aws"
    now = time.time()
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": scope["query_string"].decode("ascii"),
        "cookies": cookies,
        "headers": {**headers, "x-forwarded-proto": scope["scheme"]},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "local",
            "domainName": name,
            "domainPrefix": "local",
            "http": {
                "method": scope["method"],
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": HOST,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": os.urandom(8).hex(),
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "body": base64.b64encode(body).decode("ascii"),
        "isBase64Encoded": True,
    }


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop when asked to, and no more: uvicorn would end this process, and leave the function behind."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def serve(port: int) -> None:
    """Run the function, and serve it until either ends."""
    async with LocalRuntimeApi() as api:
        function = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *STREAMING),
            env={**os.environ, "AWS_LAMBDA_RUNTIME_API": api.address},
            start_new_session=True,  # a Ctrl-C reaches it from here alone, once
        )
        config = uvicorn.Config(FunctionUrl(api), host=HOST, port=port, lifespan="off", log_level="warning")
        server = _Server(config)
        serving = asyncio.create_task(server.serve())
        ended = asyncio.create_task(function.wait())
        try:
            await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await serving
        finally:
            if function.returncode is None:
                function.terminate()
            await ended


async def _body(receive: Receive) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _hang_up_with(receive: Receive, invocation: LocalInvocation) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    invocation.abandon()


async def _pass_on(invocation: LocalInvocation, send: Send) -> None:
    chunks = aiter(invocation)
    prelude, first = await _beginning(chunks)
    if invocation.kind == "error" or prelude is None:
        prelude, first = _FAILED, _FAILED_BODY
    headers = [*prelude["headers"].items(), *(("set-cookie", cookie) for cookie in prelude.get("cookies", []))]
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": prelude["statusCode"], "headers": raw})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk.data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _beginning(chunks: AsyncIterator[Chunk]) -> tuple[dict[str, Any] | None, bytes]:
    """The prelude, and what has come of the body with it; no prelude if the answer ends before."""
    received = b""
    async for chunk in chunks:
        received += chunk.data
        head, separator, body = received.partition(SEPARATOR)
        if separator:
            prelude: dict[str, Any] = json.loads(head)
            return prelude, body
    return None, received


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
