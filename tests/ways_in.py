"""The two ways a request with any bytes for a body comes in: as ASGI has it, and in an API Gateway event."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from starlette.testclient import TestClient
from starlette.types import ASGIApp

from handler.events.http import HttpAdapter
from tests.functional.events.worker import Context

WayIn: TypeAlias = Callable[[ASGIApp, str, bytes, str], tuple[int, Any]]
"""Sends an application a path, a body and its content type; returns the status and the JSON it is answered with."""


@contextmanager
def event_loop() -> Iterator[None]:
    """The loop Mangum runs requests on: that of the main thread, which on Lambda lives as long as the process."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def by_asgi(app: ASGIApp, path: str, body: bytes, content_type: str) -> tuple[int, Any]:
    """As uvicorn passes it on."""
    headers = {"Content-Type": content_type} if content_type else {}
    answer = TestClient(app, raise_server_exceptions=False).post(path, content=body, headers=headers)
    return answer.status_code, answer.json()


def by_event(app: ASGIApp, path: str, body: bytes, content_type: str) -> tuple[int, Any]:
    """As API Gateway wraps it (payload format 2.0), which encodes every body it does not know to be text."""
    event = http_event("POST", path, {"content-type": content_type} if content_type else {}, body)
    with event_loop():
        answer = HttpAdapter(app).handle(event, Context())
    return answer["statusCode"], json.loads(answer["body"])


WAYS_IN: list[WayIn] = [by_asgi, by_event]


def http_event(method: str, path: str, headers: dict[str, str], body: bytes, query: str = "") -> dict[str, Any]:
    """An event of API Gateway's HTTP API, payload format 2.0."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": "service", **headers},
        "requestContext": {"http": {"method": method, "path": path, "sourceIp": "192.0.2.10", "protocol": "HTTP/1.1"}},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
