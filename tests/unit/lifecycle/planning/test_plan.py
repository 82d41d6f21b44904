"""A whole plan, of little traffic with speeds that are easily reckoned with."""

import json
from dataclasses import replace
from typing import Any

import pytest

from lifecycle.planning.costs import Deployment
from lifecycle.planning.gpu_service import Scaling
from lifecycle.planning.plan import Question, make_plan, sentences
from lifecycle.planning.prices import read_prices
from lifecycle.planning.simulate import Function, Gpu
from lifecycle.planning.speeds import FunctionSpeed, GpuSpeed
from lifecycle.planning.traffic import Request, Traffic

# Every minute of a day somebody asks for 101 tokens, which the function writes in 2 s and a GPU in 1 s.
REQUESTS = tuple(Request(60.0 * minute, 1, 101) for minute in range(1440))
TRAFFIC = Traffic(REQUESTS, 86_400.0, (1 / 60,) * 24)
FUNCTION = Function(FunctionSpeed(prefill=1e9, decode=50.5, start=(3.0, 3.0, 3.0), front_start=0.5, weights_bytes=0))
GPU = Gpu(GpuSpeed(1e9, ((1, 100.0), (64, 6400.0)), "an H200"), Scaling())


def question(*goals: float) -> Question:
    return Question(TRAFFIC, FUNCTION, GPU, Deployment(1024, 0.0, "g6.xlarge"), read_prices(), goals)


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    return make_plan(question(1.5, 4.0, 0.5))


def test_what_each_target_costs_and_gives(plan: dict[str, Any]) -> None:
    """The function: 2 s of 1 GB a request and one start of 3 s, 43,800 times a month.

    Too little comes to wake a GPU, so that both together are the function and what is paid for while a GPU sleeps.
    """
    function, gpu, both = (plan["targets"][target] for target in ("lambda", "gpu", "both"))
    by_hand = 43_800 * (2 * 0.0000166667 + 1.325e-6)
    assert function["dollars_a_month"] == pytest.approx(by_hand, rel=0.005)
    assert function["dollars_a_million_tokens"] == pytest.approx(by_hand / (43_800 * 101 / 1e6), rel=0.005)
    assert function["answer"] == {"p50": 2.0, "p95": 2.0, "p99": 2.0}
    assert function["first_token"] == {"p50": 0.0198, "p95": 0.0198, "p99": 0.0198}
    assert function["cold_share"] == round(1 / 1440, 6)
    assert function["meets"] == {"1.5": False, "4": True, "0.5": False}
    assert gpu["answer"] == {"p50": 1.0, "p95": 1.0, "p99": 1.0}
    assert gpu["dollars_a_month"] == pytest.approx(730 * (0.8048 * 1.078 + 0.0225 + 0.045), rel=0.001)
    assert gpu["meets"] == {"1.5": True, "4": True, "0.5": False}
    assert both["answer"] == function["answer"]
    assert both["dollars_a_month"] == pytest.approx(by_hand + 730 * (0.0225 + 0.045), rel=0.001)
    assert (both["gpu_share"], gpu["gpu_share"], gpu["most_containers"]) == (0, 1, 1)


def test_where_they_cross(plan: dict[str, Any]) -> None:
    """684.36 $ a month, 1.76 $ of them for connections, are 19.82 million answers of 2 GB-seconds and 1.2e-6 $.

    In a tandem a request still costs 1 GB-second, so that 41.2 million are as dear as a GPU.
    """
    gpu, both = (f"cheaper than Lambda alone from {per_day} requests a day on." for per_day in ("652,000", "1,350,000"))
    slow = "needed at any traffic, for Lambda's own processors take 2.00 s."
    never = "out of reach, the GPU takes 1.00 s."
    assert sentences(plan["crossings"]) == [
        f"GPU: {gpu}",
        f"Lambda before GPU: {both}",
        f"GPU, with answers in 1.5 s on average: {slow}",
        f"Lambda before GPU, with answers in 1.5 s on average: {slow}",
        f"GPU, with answers in 4 s on average: {gpu}",
        f"Lambda before GPU, with answers in 4 s on average: {both}",
        f"GPU, with answers in 0.5 s on average: {never}",
        f"Lambda before GPU, with answers in 0.5 s on average: {never}",
    ]


def test_what_one_has_to_know(plan: dict[str, Any]) -> None:
    assert plan["notes"][0].startswith("The GPU's speed is that of an H200: 6,400 tokens a second written for 64 ")
    assert any("nat_gateway_hour" in note for note in plan["notes"])
    assert not any("hours of the traffic" in note for note in plan["notes"])


def test_an_hour_that_stands_for_a_month_is_said_to() -> None:
    hour = Traffic(REQUESTS[:60], 3600.0, (1 / 60,))
    notes = make_plan(replace(question(), traffic=hour))["notes"]
    assert any(note.startswith("1.0 hours of the traffic are simulated and stand for a month") for note in notes)


@pytest.mark.parametrize(("rate", "gpu", "both"), [(0.5, 1, 0), (2.0, 1, 1), (40.0, 2, 2), (900.0, 4, 4)])
def test_a_gpu_service_begins_as_the_traffic_before_has_left_it(rate: float, gpu: int, both: int) -> None:
    """An answer takes 1 s, and a container takes 32; there are four at most. Below a request a second it sleeps."""
    asked = replace(question(), traffic=Traffic(REQUESTS, 86_400.0, (rate,) * 24))
    found = [asked.gpu_for(target) for target in ("gpu", "both")]
    assert [(one.scaling.begin, one.scaling.least) for one in found if one] == [(gpu, 1), (both, 0)]
    assert asked.gpu_for("lambda") is None


def test_it_is_json(plan: dict[str, Any]) -> None:
    assert json.loads(json.dumps(plan, allow_nan=False)) == plan


def test_where_nothing_is_answered_there_is_no_latency() -> None:
    """One comes, and there is room for none."""
    nobody = Question(
        Traffic((Request(0.0, 1, 1),), 60.0, (1 / 60,)),
        Function(FUNCTION.speed, most=0),
        GPU,
        Deployment(1024, 0.0, "g6.xlarge"),
        read_prices(),
        (1.0,),
    )
    found = make_plan(nobody)["targets"]["lambda"]
    assert found["answer"] == {"p50": None, "p95": None, "p99": None}
    assert (found["refused_share"], found["dollars_a_million_tokens"], found["meets"]) == (1.0, None, {"1": False})
