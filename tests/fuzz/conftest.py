"""The application as it is fuzzed: over the fake engine, with moto's server for its bucket, for whoever has the key."""

from collections.abc import Iterator

import pytest
from anyio import to_thread
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.keys import Key, KeysTable
from handler.events.http import HttpAdapter
from tests.functional.conftest import aws, moto_server
from tests.functional.events.worker import Context
from tests.services import make_settings, running_app
from tests.ways_in import event_loop, http_event

__all__ = ["aws", "moto_server"]

KEY = "sk-fuzz"


class OneKey(KeysTable):
    """A table that holds one key."""

    def __init__(self) -> None:
        super().__init__("keys")

    def find(self, key: str) -> Key | None:
        return Key("fuzz", "0" * 64, None, None) if key == KEY else None


class ThroughEvents:
    """Makes an API Gateway event of each request, and has it answered as the Lambda function answers events."""

    def __init__(self, app: ASGIApp) -> None:
        self._adapter = HttpAdapter(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        query = scope["query_string"].decode("latin-1")
        event = http_event(request.method, request.url.path, dict(request.headers), await request.body(), query)

        def answer() -> Response:
            with event_loop():
                said = self._adapter.handle(event, Context())
            return Response(said["body"], said["statusCode"], said["headers"])

        await (await to_thread.run_sync(answer))(scope, receive, send)


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    with running_app(settings=make_settings(results_bucket="results")) as app:
        yield app
