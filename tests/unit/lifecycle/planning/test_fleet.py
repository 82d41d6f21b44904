"""Environments, held against what queueing theory knows of them.

Each figure is that of so many random requests that its tolerance is three or more standard deviations.
"""

import math

import pytest

from lifecycle.planning.fleet import Acquired, Fleet
from lifecycle.planning.simulate import Function, simulate
from lifecycle.planning.speeds import FunctionSpeed
from tests.unit.lifecycle.planning.arrivals import TOKENS, constant, exponential, poisson

# An answer of TOKENS takes a second; a start adds nothing.
SECOND = FunctionSpeed(prefill=1e9, decode=TOKENS, start=(0.0, 0.0, 0.0), front_start=0.0, weights_bytes=0)


def test_one_environment_at_a_time() -> None:
    fleet = Fleet(keep_warm=10, most=2)
    assert [fleet.acquire(0), fleet.acquire(0), fleet.acquire(0)] == [Acquired.COLD, Acquired.COLD, Acquired.REFUSED]
    fleet.release(3)
    fleet.release(5)
    assert fleet.acquire(2.9) is Acquired.REFUSED
    assert fleet.acquire(3) is Acquired.WARM
    assert fleet.acquire(15) is Acquired.WARM  # the other one, which was free since 5
    assert (fleet.busy, fleet.most_busy) == (2, 2)


def test_an_unused_environment_goes() -> None:
    fleet = Fleet(keep_warm=10)
    fleet.acquire(0)
    fleet.release(1)
    assert fleet.acquire(11) is Acquired.WARM
    fleet.release(12)
    assert fleet.acquire(22.1) is Acquired.COLD


@pytest.mark.parametrize("idle", [0.5, 1.0, 2.0])
def test_cold_starts_of_rare_requests(idle: float) -> None:
    """Of requests that take no time, e^(-rate x keep warm) come after a longer gap: 20,000 of them, within 0.012."""
    rate = 1 / 600
    traffic = poisson(rate, 20_000, lambda _: 1)
    found = simulate(traffic, Function(SECOND, keep_warm=idle / rate), None)
    assert found.cold == pytest.approx(math.exp(-idle), abs=0.012)


@pytest.mark.parametrize("output", [exponential, constant])
def test_requests_beyond_the_bound_are_lost(output: object) -> None:
    """Erlang's B formula, which holds whatever the distribution of the service: of 4 busy on average 5 are too few."""
    load, most = 4.0, 5
    lost = 1.0
    for servers in range(1, most + 1):
        lost = load * lost / (servers + load * lost)
    found = simulate(poisson(load, 100_000, output), Function(SECOND, most=most), None)  # type: ignore[arg-type]
    assert lost == pytest.approx(0.199, abs=0.001)
    assert found.refused == pytest.approx(lost, abs=0.01)
    assert found.most_environments == most


def test_constant_load_is_billed_by_the_second() -> None:
    """One request a second that takes two: two environments, ever busy; one start of each, of half a second."""
    speed = FunctionSpeed(prefill=100, decode=100, start=(0.5, 0.5, 0.5), front_start=0.0, weights_bytes=0)
    traffic = poisson(1, 1, constant)
    requests = tuple(traffic.requests[0]._replace(at=float(at), prompt=100, output=100) for at in range(1000))
    found = simulate(type(traffic)(requests, 1000.0, (1.0,)), Function(speed), None)
    # A warm answer reads for 1 s and writes for 1 s. A start ends with the first token: that one needs no step.
    assert set(found.answer.round(6)) == {2.0, 2.49}
    assert found.usage.function_seconds == pytest.approx(1000 * 2 + 0.49 * found.usage.starts)
    assert found.usage.starts == 3  # the third comes at 2 s, when the first, of 2.49 s, is still busy
    assert (found.usage.invocations, found.usage.tokens) == (1000, 100_000)


def test_a_snapshot_makes_a_start_short_and_unbilled() -> None:
    traffic = poisson(1 / 6000, 200, lambda _: 1)
    cold = FunctionSpeed(prefill=1e9, decode=100, start=(3.0, 4.0, 5.0), front_start=0.0, weights_bytes=0)
    plain, restored = (simulate(traffic, Function(cold, 1.0, None, restore), None) for restore in (None, 0.3))
    assert (plain.cold, restored.cold) == (1.0, 1.0)
    assert 3.0 <= plain.first_token.min() < plain.first_token.mean() < plain.first_token.max() <= 5.0
    assert plain.usage.function_seconds == pytest.approx(plain.answer.sum(), rel=1e-6)
    assert restored.first_token == pytest.approx([0.3] * 200, rel=1e-6)
    assert restored.usage.function_seconds == pytest.approx(0.0, abs=1e-5)
