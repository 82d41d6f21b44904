"""The deadline of a request: Lambda's or the gateway's, whichever comes first."""

import time
from dataclasses import dataclass
from typing import Any

import pytest

from handler.deadline import ANSWER_SECONDS, GATEWAY_SECONDS, deadline_of


@dataclass
class Context:
    milliseconds: int

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def seconds_left(event: dict[str, Any], milliseconds: int | None = None) -> float | None:
    context = None if milliseconds is None else Context(milliseconds)
    deadline = deadline_of(event, context)
    return None if deadline is None else deadline - time.time() + ANSWER_SECONDS


def arrived(seconds_ago: float, **fields: Any) -> dict[str, Any]:
    return {"requestContext": {"timeEpoch": int((time.time() - seconds_ago) * 1000), **fields}}


def test_under_uvicorn_there_is_none() -> None:
    assert deadline_of({}, None) is None


def test_lambda_gives_the_time_it_has_left() -> None:
    assert seconds_left({"prompt": "a"}, 20_000) == pytest.approx(20, abs=0.1)


def test_the_gateways_clock_started_when_the_request_arrived() -> None:
    assert seconds_left(arrived(10), 300_000) == pytest.approx(GATEWAY_SECONDS - 10, abs=0.1)


def test_payload_1_names_its_time_differently() -> None:
    event = {"requestContext": {"requestTimeEpoch": int(time.time() * 1000) - 4_000}}
    assert seconds_left(event, 300_000) == pytest.approx(GATEWAY_SECONDS - 4, abs=0.1)


def test_the_earlier_deadline_counts() -> None:
    assert seconds_left(arrived(1), 5_000) == pytest.approx(5, abs=0.1)


def test_a_function_url_waits_as_long_as_the_function() -> None:
    event = arrived(10, domainName="abc.lambda-url.eu-central-1.on.aws")
    assert seconds_left(event, 300_000) == pytest.approx(300, abs=0.1)


@pytest.mark.parametrize("seconds_ago", [3600, -3600])
def test_a_replayed_event_has_only_lambdas_deadline(seconds_ago: float) -> None:
    assert seconds_left(arrived(seconds_ago), 20_000) == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("context", [None, "text", {"timeEpoch": "soon"}, {"elb": {}}])
def test_a_strange_request_context_does_no_harm(context: Any) -> None:
    assert seconds_left({"requestContext": context}, 20_000) == pytest.approx(20, abs=0.1)
