"""The bulk benchmark over a function and an engine that take no time: what is sent, counted and judged."""

import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench import bulk
from bench.bulk import (
    ENGINE_BATCH,
    FEW,
    LINES,
    SAMPLING,
    TOGETHER,
    BenchmarkError,
    add,
    add_step,
    one_at_a_time,
    queue,
    show,
)
from bench.engine import NEW
from bench.report import Report


class Function:
    """Remembers events, and answers them all alike."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> Any:
        self.events.append(event)
        return self.answer


BODIES = bulk.bodies(np.random.default_rng(0), 3, "sampled")


def test_one_at_a_time_sends_bodies_and_the_queue_sends_them_together() -> None:
    function = Function({"batchItemFailures": []})
    assert one_at_a_time(function, BODIES, "a") >= 0
    assert function.events == BODIES
    assert queue(function, BODIES, "a") >= 0
    records = function.events[-1]["Records"]
    assert [json.loads(record["body"]) for record in records] == BODIES
    assert len({record["messageAttributes"]["request_id"]["stringValue"] for record in records}) == len(BODIES)


def test_a_message_that_was_not_answered_is_no_measurement() -> None:
    with pytest.raises(BenchmarkError, match="a message was not answered"):
        queue(Function({"batchItemFailures": [{"itemIdentifier": "0"}]}), BODIES, "a")


@pytest.mark.parametrize(("factor", "verdict"), [(1.2, "pass"), (1.4, "miss")])
def test_the_queue_is_held_against_the_engine(factor: float, verdict: str) -> None:
    report, once = Report(), 0.3
    add(report, "engine", {}, ENGINE_BATCH, seconds=NEW * 0.01)
    add_step(report, "engine", {}, few=FEW * 0.01, many=NEW * 0.01)
    for how in SAMPLING:
        add(report, "queue", {"sampling": how}, TOGETHER, seconds=NEW * 0.01 * factor)
        add(report, "bulk", {"sampling": how}, LINES, seconds=NEW * 0.01 * 3)
        add_step(report, "queue", {"sampling": how}, few=once + FEW * 0.01 * factor, many=once + NEW * 0.01 * factor)
    # Forty-eight lines are three times sixteen, so that a token's share is a third of the whole, too.
    assert {series.subject: series.readings[0] for series in report if series.figure == "share"} == {
        "engine": 10.0,
        "queue": pytest.approx(10.0 * factor),
        "bulk": pytest.approx(10.0),
    }
    assert {series.subject: series.readings[0] for series in report if series.figure == "step"} == {
        "engine": pytest.approx(10.0),
        "queue": pytest.approx(10.0 * factor),
    }
    screen = Console(record=True, width=120)
    show(report, screen)
    told = [line for line in screen.export_text().splitlines() if "step of the queue's ten" in line]
    assert [line.split(":")[0] for line in told] == [verdict] * 2
