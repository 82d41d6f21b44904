"""Answers that are larger than what brought the request takes back: refused in its own shape, and not by a gateway."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse

from handler.api.request_id import RequestIdMiddleware
from handler.events.http import LARGEST_ANSWER, LARGEST_BALANCED_ANSWER, HttpAdapter
from tests.functional.events.worker import Context

EVENTS = Path(__file__).parent.parent.parent / "events"

pytestmark = pytest.mark.usefixtures("mangum_loop")


def answer(source: str, text: str) -> Any:
    event = json.loads((EVENTS / f"{source}.json").read_text())
    event["headers"]["x-request-id"] = "mine"
    return HttpAdapter(RequestIdMiddleware(JSONResponse(text))).handle(event, Context())


@pytest.mark.parametrize("quoted", ["a", '"'])
@pytest.mark.parametrize(
    ("source", "most"),
    [
        ("http-api-v2", LARGEST_ANSWER),
        ("rest-api-v1", LARGEST_ANSWER),
        ("function-url", LARGEST_ANSWER),
        ("load-balancer", LARGEST_BALANCED_ANSWER),
    ],
)
def test_an_answer_has_its_bound(source: str, most: int, quoted: str) -> None:
    twice = len(json.dumps(json.dumps(quoted))) - len(json.dumps(json.dumps("")))
    count = (most - len(json.dumps(answer(source, "")))) // twice - 10  # the length of the length
    whole, larger = answer(source, quoted * count), answer(source, quoted * (count + 20))

    assert (whole["statusCode"], json.loads(whole["body"])) == (200, quoted * count)
    assert len(json.dumps(whole)) <= most
    assert (larger["statusCode"], larger["headers"]["x-request-id"]) == (400, "mine")
    assert larger.keys() == whole.keys()
    error = json.loads(larger["body"])["error"]
    assert error["code"] == "answer_too_large"
    assert error["message"].startswith(
        f"The answer may have at most {most} bytes where it comes in one piece; it would"
    )
