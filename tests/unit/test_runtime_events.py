"""Events that are no HTTP, in the runtime that streams: a handler answers them in one piece."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from mangum.types import Receive, Scope, Send

from handler.runtime.api import Invocation, RuntimeApi, RuntimeApiError
from lifecycle.local.runtime_api import LocalRuntimeApi
from tests.runtimes import PATIENCE, running, url_event


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The application, which is not asked."""
    raise AssertionError(scope)


OTHERS: list[Any] = [
    {"prompt": "the sea"},
    {"Records": []},
    {"requestContext": {"elb": {}}, "httpMethod": "GET"},  # a load balancer cannot stream
    {"version": "2.0", "requestContext": {}},  # looks like HTTP, and lacks a part
    {"version": "2.0", "requestContext": None},
    url_event("/") | {"isBase64Encoded": True, "body": "a"},
    ["version", "requestContext"],
    "version requestContext",
    7,
    None,
]


def test_all_other_events_go_to_the_handler() -> None:
    async def test() -> None:
        async with running(nothing, lambda event, context: {"id": context.aws_request_id, "event": event}) as api:
            for event in OTHERS:
                invocation = api.invoke(event)
                assert json.loads(await invocation.body()) == {"id": invocation.id, "event": event}
                assert invocation.kind == "response"
                assert invocation.headers["lambda-runtime-invocation-id"] == f"try-1-of-{invocation.id}"
                assert "lambda-runtime-function-response-mode" not in invocation.headers

    run(test())


@pytest.mark.parametrize(
    ("result", "kind", "message"),
    [
        (KeyError("sea"), "KeyError", "'sea'"),
        (b"bytes", "TypeError", "Object of type bytes is not JSON serializable"),
    ],
)
def test_what_the_handler_cannot_answer_is_an_error(result: Any, kind: str, message: str) -> None:
    def handler(event: Any, context: object) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    async def test() -> None:
        async with running(nothing, handler) as api:
            for _ in range(2):
                invocation = api.invoke({"prompt": "the sea"})
                error = json.loads(await invocation.body())
                assert invocation.kind == "error"
                assert invocation.headers["lambda-runtime-invocation-id"] == f"try-1-of-{invocation.id}"
                assert invocation.headers["lambda-runtime-function-error-type"] == kind
                assert (error["errorType"], error["errorMessage"]) == (kind, message)

    run(test())


def test_without_a_handler_they_are_errors() -> None:
    async def test() -> None:
        async with running(nothing) as api:
            error = json.loads(await api.invoke({"prompt": "the sea"}).body())
        assert error["errorMessage"] == ("Only HTTP requests of a function URL or an API Gateway are answered here.")

    run(test())


def test_the_stand_in_refuses_what_it_did_not_ask_for() -> None:
    async def test() -> None:
        async with LocalRuntimeApi() as api:
            with pytest.raises(RuntimeApiError, match="Lambda answered 403"):
                await RuntimeApi(api.address).respond(Invocation("unknown", b"{}", None, None, []), b"{}")

    run(test())
