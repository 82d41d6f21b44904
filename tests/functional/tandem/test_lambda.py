"""Forwarding from a Lambda function: events by Mangum, request after request on one event loop, and its deadlines."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from handler.events.http import HttpAdapter
from tests.exchanges import events_of
from tests.functional.events.worker import Context
from tests.functional.tandem.pair import BODY, TEXT, GpuService, front, lookout_of
from tests.ways_in import http_event

EVENTS = Path(__file__).parents[2] / "events"

pytestmark = pytest.mark.usefixtures("mangum_loop")


def event(**changes: Any) -> dict[str, Any]:
    return http_event(
        "POST", "/v1/completions", {"content-type": "application/json"}, json.dumps(BODY | changes).encode()
    )


@pytest.mark.parametrize("name", ["http-api-v2", "http-api-v2-stream", "function-url", "rest-api-v1", "load-balancer"])
def test_every_http_event_is_forwarded(service: GpuService, name: str) -> None:
    golden = json.loads((EVENTS / f"{name}.json").read_text())
    with front(service) as app:
        for _ in range(2):
            answer = HttpAdapter(app).handle(golden, Context())
            headers = answer.get("headers") or {field: value for field, [value] in answer["multiValueHeaders"].items()}
            assert (answer["statusCode"], headers["x-served-by"]) == (200, "gpu")
    assert len(service.asked) == 2


def test_a_stream_comes_in_one_piece(service: GpuService) -> None:
    with front(service) as app:
        answer = HttpAdapter(app).handle(event(stream=True), Context())
    *chunks, done = events_of(answer["body"])
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == TEXT


def test_a_silent_service_leaves_time_to_answer_here(service: GpuService) -> None:
    service.silent = True
    with front(service) as app:
        began = time.monotonic()
        answer = HttpAdapter(app).handle(event(stream=True), Context(milliseconds=2600))
        took = time.monotonic() - began
        assert not lookout_of(app).awake()
    assert (answer["statusCode"], "x-served-by" in answer["headers"]) == (200, False)
    assert 1 < took < 2.6  # half of what is left, less the time to answer in


def test_whoever_has_no_time_for_a_second_try_has_none_for_a_first(service: GpuService) -> None:
    service.silent = True
    with front(service) as app:
        answer = HttpAdapter(app).handle(event(), Context(milliseconds=2000))
        assert lookout_of(app).awake()
    assert json.loads(answer["body"])["choices"][0]["text"] == TEXT
    assert service.asked == []
