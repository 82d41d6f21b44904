"""The function whose responses stream: our own runtime under the runtime interface emulator, with the real model."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.invoke import STREAMING, emulated_function, invoke
from lifecycle.local.models import publish_source
from tests.exchanges import events_of
from tests.runtimes import split, url_event

EVENTS = Path(__file__).parent.parent.parent / "events"

Send = Callable[[Any], bytes]


@pytest.fixture(scope="module")
def send() -> Iterator[Send]:
    """Sends an event to one warm function and returns the bytes of its answer."""
    with embedded_cloud() as cloud:
        model = publish_source("demo", cloud.store, Console(quiet=True))
        with emulated_function(cloud.environment(model), STREAMING) as address:
            yield lambda event: invoke(address, event if isinstance(event, bytes) else json.dumps(event).encode())


def golden(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def test_a_stream_comes_with_its_prelude(send: Send) -> None:
    for _ in range(3):
        prelude, body = split(send(golden("http-api-v2-stream")))
        assert prelude["statusCode"] == 200
        assert prelude["cookies"] == []
        headers = prelude["headers"]
        assert len(headers.pop("x-request-id")) == 32
        assert headers.pop("x-model-version").startswith("v")
        assert "prefill;dur=" in headers.pop("server-timing")
        assert headers == {
            "cache-control": "no-store",
            "x-accel-buffering": "no",
            "content-type": "text/event-stream; charset=utf-8",
        }
        *chunks, usage, done = events_of(body.decode())
        assert done == "[DONE]"
        assert usage["usage"]["completion_tokens"] == 16
        assert len(chunks) > 5


@pytest.mark.parametrize("name", ["function-url", "rest-api-v1", "http-api-v2"])
def test_every_http_source_that_can_stream_is_answered(send: Send, name: str) -> None:
    prelude, body = split(send(golden(name)))
    assert prelude["statusCode"] == 200
    assert json.loads(body)["choices"][0]["text"]


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (url_event("/v1/completions", {"prompt": "a", "stream": True, "max_tokens": 5000}), 400, "invalid_value"),
        (url_event("/v1/models", authorization="Bearer sk-guess"), 401, "invalid_api_key"),
    ],
)
def test_what_is_wrong_from_the_start_has_its_status(send: Send, event: Any, status: int, code: str) -> None:
    prelude, body = split(send(event))
    assert (prelude["statusCode"], json.loads(body)["error"]["code"]) == (status, code)


def test_other_events_are_answered_in_one_piece(send: Send) -> None:
    assert json.loads(send(golden("direct-prompt")))["object"] == "text_completion"
    assert json.loads(send(golden("schedule")))["warm"] == "demo"
    assert json.loads(send(golden("load-balancer")))["statusCode"] == 200


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        (golden("unknown-kinesis"), "UnknownEventError", "Recognised are: HTTP"),
        ({"version": "2.0", "requestContext": {}}, "InvalidRequestError", "lacks a part Mangum needs: 'http'"),
        (b"no JSON", "JSONDecodeError", "Expecting value"),
    ],
)
def test_what_cannot_be_answered_is_a_typed_error(send: Send, event: Any, kind: str, message: str) -> None:
    error = json.loads(send(event))
    assert error["errorType"] == kind
    assert message in error["errorMessage"]
