"""`sam local invoke`: golden events into a fresh container, which reads its model from S3 over the network."""

import json
from pathlib import Path
from typing import Any

import pytest

from lifecycle.local.containers import sam_invoke
from tests.exchanges import events_of
from tests.runtimes import split

pytestmark = pytest.mark.container

EVENTS = Path("tests/events")


def answer(event: str, cloud: dict[str, str]) -> Any:
    """What the function answers."""
    return json.loads(sam_invoke(EVENTS / f"{event}.json", cloud))


def test_direct_prompt(cloud: dict[str, str]) -> None:
    completion = answer("direct-prompt", cloud)
    assert completion["object"] == "text_completion"
    assert completion["model"] == "demo"
    assert completion["usage"]["completion_tokens"] == 16
    assert completion["choices"][0]["text"].strip()


@pytest.mark.parametrize("event", ["http-api-v2", "rest-api-v1", "function-url", "load-balancer"])
def test_http_events(event: str, cloud: dict[str, str]) -> None:
    response = answer(event, cloud)
    assert response["statusCode"] == 200, response
    assert json.loads(response["body"])


def test_the_function_that_streams(cloud: dict[str, str]) -> None:
    prelude, body = split(sam_invoke(EVENTS / "http-api-v2-stream.json", cloud, "StreamFunction").rstrip(b"\n"))
    assert prelude["statusCode"] == 200
    assert events_of(body.decode() + "\n\n")[-1] == "[DONE]"


def test_unknown_event_is_told_what_is_recognised(cloud: dict[str, str]) -> None:
    error = answer("unknown-kinesis", cloud)
    assert error["errorType"] == "UnknownEventError"
    assert "Recognised are" in error["errorMessage"]


def test_missing_model_is_answered_with_503(cloud: dict[str, str]) -> None:
    response = answer("http-api-v2", {**cloud, "MODEL_NAME": "absent"})
    assert response["statusCode"] == 503
    assert json.loads(response["body"])["error"]["code"] == "model_unavailable"
