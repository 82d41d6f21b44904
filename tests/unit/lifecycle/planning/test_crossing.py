"""Where a GPU becomes cheaper: by hand where costs are lines, and held against the simulation."""

from math import inf

import pytest

from lifecycle.planning.costs import Deployment, monthly
from lifecycle.planning.crossing import SteadyState, crossing
from lifecycle.planning.gpu_service import Scaling
from lifecycle.planning.prices import read_prices
from lifecycle.planning.simulate import Function, Gpu, simulate
from lifecycle.planning.speeds import FunctionSpeed, GpuSpeed
from lifecycle.planning.traffic import Description, Length, Traffic

PRICES = read_prices()
FUNCTION = Function(FunctionSpeed(prefill=200, decode=20, start=(5.0, 5.0, 5.0), front_start=0.5, weights_bytes=0))
SPEED = GpuSpeed(20_000, ((1, 100.0), (64, 6400.0)))
GPU = Gpu(SPEED, Scaling())
DEPLOYMENTS = {
    "lambda": Deployment(2048, 0.0),
    "gpu": Deployment(2048, 0.0, "g6.xlarge"),
    "both": Deployment(2048, 0.0, "g6.xlarge"),
}


def traffic(rate: float, most: int = 1000) -> Traffic:
    length = Length(p50=101, p95=101)
    description = Description(requests_per_second=[rate] * 24, prompt_tokens=length, output_tokens=length)
    return description.draw(most=most)


def test_a_fixed_price_against_one_by_the_request() -> None:
    """An answer takes 101 / 200 + 101 / 20 = 5.555 s of 2 GB and 1.2e-6 $ for the call; a GPU's month 682.60 $."""
    steady = SteadyState(traffic(1.0), FUNCTION, GPU, PRICES)
    request = 5.555 * 2 * 0.0000166667 + 1.2e-6
    instance = 730 * (0.8048 * 1.078 + 0.0225 + 0.045)
    by_hand = instance / request * 24 / 730
    found = crossing(lambda x: steady.dollars("gpu", x, DEPLOYMENTS) - steady.dollars("lambda", x, DEPLOYMENTS))
    assert found == pytest.approx(by_hand, rel=0.001)


def test_as_many_containers_as_hold_what_is_in_flight() -> None:
    """An answer takes 1 s, so 32 a second are 32 in flight (Little's law): one container's, and the next needs two."""
    steady = SteadyState(traffic(1.0), FUNCTION, Gpu(GpuSpeed(1e12, SPEED.decode), Scaling(in_flight=32)), PRICES)
    found = [steady.service(rate) for rate in (0.0, 1.0, 31.9, 32.1, 320.1)]
    assert [one.containers for one in found if one] == [1, 1, 1, 2, 11]
    assert steady.gpu_answer == pytest.approx(1.0)


def test_a_tighter_goal_needs_more_containers() -> None:
    """A step takes 10 ms for one, 15 ms for two and 20 ms for three: they answer 1, 1.33 and 1.5 a second."""
    gpu = Gpu(GpuSpeed(1e12, ((1, 100.0), (3, 150.0))), Scaling(in_flight=3))
    containers = {}
    for goal in (inf, 2.01, 1.6, 1.01, 0.9):
        found = SteadyState(traffic(1.0), FUNCTION, gpu, PRICES, goal).service(9.9)
        containers[goal] = found and found.containers
    assert containers == {inf: 7, 2.01: 7, 1.6: 8, 1.01: 10, 0.9: None}


def test_nothing_crosses_where_one_is_always_dearer() -> None:
    assert crossing(lambda per_day: 1.0) is None
    assert crossing(lambda per_day: -1.0) == 1.0
    assert crossing(lambda per_day: 12_345 - per_day) == pytest.approx(12_345)
    # It is crossed at 500 and, after a jump at 1,000, once more at 5,000.
    assert crossing(lambda per_day: (5000 if per_day > 1000 else 500) - per_day) == pytest.approx(5000)


@pytest.mark.parametrize(
    ("target", "rate"),
    [("lambda", 0.05), ("lambda", 20.0), ("gpu", 0.05), ("gpu", 20.0), ("gpu", 60.0), ("both", 0.05), ("both", 3.0)],
)
def test_the_simulation_agrees(target: str, rate: float) -> None:
    """Steady traffic, simulated: within 3 %, for starts, the minute in which a tandem wakes, and chance.

    The GPU service begins with the containers that it should have, and must not take more.
    """
    played = traffic(rate, most=30_000)
    steady = SteadyState(played, FUNCTION, GPU, PRICES)
    service = steady.service(rate)
    least = service.containers if service and target == "gpu" else 0
    gpu = None if target == "lambda" else Gpu(SPEED, Scaling(least=least, start_seconds=0))
    found = simulate(played, None if target == "gpu" else FUNCTION, gpu)
    dollars = sum(monthly(found.usage, DEPLOYMENTS[target], PRICES).values())
    assert dollars == pytest.approx(steady.dollars(target, rate * 86_400, DEPLOYMENTS), rel=0.03)
