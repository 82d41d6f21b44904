"""Lambda's Runtime API with response streaming, before a stand-in that sees each chunk; nothing waits for a clock."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from mangum.types import ASGI, Message, Receive, Scope, Send

from handler.runtime.cycle import FAILURE_BODY
from lifecycle.local.invocation import error_in
from tests.runtimes import PATIENCE, answer, running, url_event

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PLAIN = {"statusCode": 200, "headers": {}, "cookies": []}
FAILED = ({"statusCode": 500, "headers": {"content-type": "application/json"}, "cookies": []}, FAILURE_BODY)


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


def sending(*messages: Message, error: Exception | None = None) -> ASGI:
    """An application that sends this, whatever it is asked, and then fails or not."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return application


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the request's body back."""
    message = await receive()
    assert message["more_body"] is False
    await send(START)
    await send(part(message["body"]))


async def ask(application: ASGI) -> tuple[dict[str, Any], bytes, Any]:
    """Prelude, body and error of one answer; afterwards another one must be answered as well."""
    first = True

    async def first_or_echo(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal first
        chosen, first = (application, False) if first else (echo, False)
        await chosen(scope, receive, send)

    async with running(first_or_echo) as api:
        invocation = api.invoke(url_event("/", {"number": 1}))
        prelude, body = await answer(invocation)
        assert await answer(api.invoke(url_event("/", {"number": 2}))) == (PLAIN, b'{"number": 2}')
    assert invocation.kind == "response"
    return prelude, body, error_in(invocation.trailers)


def test_a_response_as_lambda_wants_it() -> None:
    headers = [(b"Content-Type", b"text/plain"), (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2; Path=/")]
    headers += [(b"vary", b"Origin"), (b"Vary", b"Accept"), (b"x-name", "é".encode("latin-1"))]
    headers += [(b"Transfer-Encoding", b"chunked")]  # Lambda's business, not the application's
    start = {"type": "http.response.start", "status": 201, "headers": headers}

    async def test() -> None:
        async with running(sending(start, part(b"one, ", more=True), part(b"two"))) as api:
            invocation = api.invoke(url_event("/"))
            await invocation.body()
        sent = ["lambda-runtime-function-response-mode", "transfer-encoding", "content-type"]
        assert [invocation.headers[name] for name in sent] == [
            "streaming",
            "chunked",
            "application/vnd.awslambda.http-integration-response",
        ]
        prelude = {
            "statusCode": 201,
            "headers": {"content-type": "text/plain", "vary": "Origin, Accept", "x-name": "é"},
            "cookies": ["a=1", "b=2; Path=/"],
        }
        assert [chunk.data for chunk in invocation.chunks] == [
            json.dumps(prelude).encode() + bytes(8),
            b"one, ",
            b"two",
        ]
        assert invocation.headers["lambda-runtime-invocation-id"] == f"try-1-of-{invocation.id}"
        assert invocation.trailers == {}

    run(test())


def test_each_chunk_leaves_before_the_next_one_is_made() -> None:
    made = threading.Semaphore(0)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(5):
            await asyncio.to_thread(made.acquire)
            await send(part(b"%d" % number, more=True))
        await send(part(b""))

    async def test() -> None:
        async with running(application) as api:
            invocation = api.invoke(url_event("/"))
            made.release()
            async for chunk in invocation:
                if len(chunk.data) == 1:  # not the prelude
                    made.release()
        *_, first, _, _, _, last = invocation.chunks
        assert [first.data, last.data] == [b"0", b"4"]
        assert first.at < last.at

    run(test())


def test_one_invocation_after_the_other_is_answered() -> None:
    async def test() -> None:
        async with running(echo) as api:
            for number in range(20):
                assert await answer(api.invoke(url_event("/", {"number": number}))) == (
                    PLAIN,
                    json.dumps({"number": number}).encode(),
                )

    run(test())


@pytest.mark.parametrize(
    "application",
    [
        sending(error=ValueError("the sea")),
        sending(START, error=ValueError("the sea")),
        sending(),
        sending(START),
        sending(part(b"no start")),
        sending({"type": "http.response.start", "status": 200, "headers": [("no", "bytes")]}, part(b"")),
    ],
    ids=["error", "error-after-start", "nothing", "start-only", "body-only", "bad-header"],
)
def test_what_fails_before_the_first_byte_is_a_500(application: ASGI, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        assert await ask(application) == (*FAILED, None)

    run(test())
    assert "the sea" not in caplog.text


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("the sea"), "ValueError", "the sea"),
        (None, "ApplicationError", "The application returned before its response was complete."),
    ],
)
def test_what_fails_after_it_is_told_in_the_trailers(error: Exception | None, kind: str, message: str) -> None:
    async def test() -> None:
        prelude, body, told = await ask(sending(START, part(b"so far", more=True), error=error))
        assert (prelude, body) == (PLAIN, b"so far")
        assert told[0] == kind
        assert {name: told[1][name] for name in ("errorType", "errorMessage")} == {
            "errorType": kind,
            "errorMessage": message,
        }

    run(test())


def test_what_fails_after_the_response_does_it_no_harm() -> None:
    async def test() -> None:
        assert await ask(sending(START, part(b"whole"), error=ValueError("late"))) == (PLAIN, b"whole", None)

    run(test())


def test_whoever_hangs_up_disconnects_the_application() -> None:
    received: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(part(b"so far", more=True))
        received.extend([(await receive())["type"], (await receive())["type"]])
        await send(part(b"to nobody", more=True))
        await send(part(b""))
        received.append((await receive())["type"])

    async def test() -> None:
        async with running(application) as api:
            for _ in range(2):
                invocation = api.invoke(url_event("/"))
                async for chunk in invocation:
                    if chunk.data == b"so far":
                        invocation.abandon()
                assert b"to nobody" not in [chunk.data for chunk in invocation.chunks]
        assert received == ["http.request", "http.disconnect", "http.disconnect"] * 2

    run(test())


def test_the_application_is_told_what_lambda_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "stream")
    seen: dict[str, Any] = {}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope, trace=os.environ["_X_AMZN_TRACE_ID"])
        await echo(scope, receive, send)

    async def test() -> None:
        async with running(application) as api:
            event = url_event("/v1/completions")
            invocation = api.invoke(event, seconds=20)
            await invocation.body()
        assert seen["aws.event"] == event
        assert seen["extensions"] == {"aws.lambda.response_stream": {}}
        assert seen["trace"].startswith("Root=1-")
        context = seen["aws.context"]
        assert (context.aws_request_id, context.function_name) == (invocation.id, "stream")
        assert context.invoked_function_arn.endswith(":function:local")
        assert context.get_remaining_time_in_millis() <= (invocation.deadline - time.time()) * 1000 + 1

    run(test())


def test_events_of_a_rest_api_stream_as_well() -> None:
    event = json.loads((Path(__file__).parent.parent / "events" / "rest-api-v1.json").read_text())

    async def test() -> None:
        async with running(echo) as api:
            assert await answer(api.invoke(event)) == (PLAIN, event["body"].encode())

    run(test())
