"""A batch, held against hand-made cases and against what queueing theory knows of one server.

Each figure is that of so many random requests that its tolerance is three or more standard deviations.
"""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from lifecycle.planning.batch import Batch, Times
from lifecycle.planning.simulate import Seconds
from lifecycle.planning.speeds import GpuSpeed
from lifecycle.planning.traffic import Request, Traffic
from tests.unit.lifecycle.planning.arrivals import TOKENS, constant, exponential, poisson

STEP = 1 / TOKENS  # seconds: an answer of TOKENS takes one, alone


def answers(traffic: Traffic, steps: Sequence[float], prefill: float = 1e12) -> Seconds:
    """Seconds of each answer."""
    times = Times(len(traffic.requests))
    batch = Batch(steps, prefill, times)
    ended = []
    for index, request in enumerate(traffic.requests):
        ended += batch.advance(request.at)
        batch.add(index, request)
    ended += batch.advance(math.inf)
    assert sorted(ended) == list(range(len(times.last)))
    assert batch.in_flight == 0
    return np.asarray(np.array(times.last) - [request.at for request in traffic.requests])


def test_two_requests_by_hand() -> None:
    """Reading takes 1 s each; a step takes 0.1 s alone and 0.2 s for two. Nothing is written while a prompt is read.

    0 to 1: A is read, and its first token comes. 1 to 1.5: A writes 5 tokens. 1.5 to 2.5: B is read. 2.5 to 3.5: both
    write 5 tokens, with which A has its 11 and is done. 3.5 to 3.6: B writes the last of its 7.
    """
    times = Times(2)
    batch = Batch([0.0, 0.1, 0.2], prefill=10.0, times=times)
    batch.add(0, Request(0.0, 10, 11))
    assert batch.advance(1.5) == []
    batch.add(1, Request(1.5, 10, 7))
    assert batch.in_flight == 2
    assert batch.advance(3.55) == [0]
    assert batch.advance(9.0) == [1]
    assert times.first == pytest.approx([1.0, 2.5])
    assert times.last == pytest.approx([3.5, 3.6])


def test_whoever_finds_no_room_waits() -> None:
    """There is room for one: B is read when A is done."""
    times = Times(2)
    batch = Batch([0.0, 1.0], prefill=1.0, times=times)
    batch.add(0, Request(0.0, 1, 3))
    batch.add(1, Request(0.0, 1, 1))
    assert batch.advance(math.inf) == [0, 1]
    assert (times.first, times.last) == ([1.0, 4.0], [3.0, 4.0])


def test_one_at_a_time() -> None:
    """M/M/1: at half its capacity an answer of 1 s takes 1 / (1 - 0.5) = 2 s. 100,000 of them, within 5 %."""
    found = answers(poisson(0.5, 100_000, exponential), [0.0, STEP])
    assert found.mean() == pytest.approx(2.0, rel=0.05)


def test_a_capacity_that_is_shared() -> None:
    """M/G/1 processor sharing: an answer takes 1 / (1 - load) times its time alone, whatever the distribution."""
    steps = [batch * STEP for batch in range(200)]
    for output in (exponential, constant):
        found = answers(poisson(0.5, 50_000, output), steps)
        assert found.mean() == pytest.approx(2.0, rel=0.05)


def test_a_capacity_that_grows_up_to_a_batch() -> None:
    """M/M/c: as many are in it as in c servers with one queue, so an answer takes 1 s and, by Erlang's C, a wait.

    At 3.2 a second for 4 servers 60 % have to wait, and wait 1 / (4 - 3.2) s; 100,000 of them, within 5 %.
    """
    load, servers = 3.2, 4
    last = load**servers / math.factorial(servers) / (1 - load / servers)
    waiting = last / (sum(load**busy / math.factorial(busy) for busy in range(servers)) + last)
    assert waiting == pytest.approx(0.5964, abs=1e-4)
    speed = GpuSpeed(1e12, ((1, TOKENS), (servers, servers * TOKENS)))
    found = answers(poisson(load, 100_000, exponential), speed.steps(500))
    assert found.mean() == pytest.approx(1 + waiting / (servers - load), rel=0.05)


def test_short_answers_do_not_wait_for_long_ones_where_capacity_is_shared() -> None:
    traffic = poisson(0.5, 50_000, exponential)
    found = answers(traffic, [batch * STEP for batch in range(200)])
    outputs = np.array([request.output for request in traffic.requests])
    for low, high in ((50, 150), (900, 1100), (1900, 2100)):
        chosen = (low < outputs) & (outputs < high)
        assert (found[chosen] / outputs[chosen]).mean() == pytest.approx(2 * STEP, rel=0.1)


def test_a_step_that_takes_the_same_for_any_batch_lets_nobody_wait() -> None:
    traffic = poisson(20.0, 5_000, exponential)
    outputs = np.array([request.output for request in traffic.requests])
    assert answers(traffic, [STEP] * 200) == pytest.approx((outputs - 1) * STEP, abs=1e-6)


def test_prompts_are_read_in_turn() -> None:
    """M/D/1: read for 1 s each at half the capacity, they wait 0.5 / (2 x (1 - 0.5)) = 0.5 s. 100,000, within 5 %."""
    found = answers(poisson(0.5, 100_000, lambda _: 1), [0.0, STEP], prefill=1.0)
    assert found.mean() == pytest.approx(1.5, rel=0.05)
