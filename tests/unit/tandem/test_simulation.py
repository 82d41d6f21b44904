"""Hours of the tandem in simulated time: every request is answered once, nobody waits for a service that sleeps, and
that one neither stays up for nothing nor is woken and put to sleep again and again.
"""

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from handler.tandem.rules import LONGEST_PAUSE_SECONDS, Belief
from tests.unit.tandem.simulation import (
    BY_GPU,
    IDLE_MINUTES,
    REFUSED,
    START,
    WAKE_MESSAGES,
    WAKE_REQUESTS,
    Stage,
    World,
)

MINUTE, HOUR = 60.0, 3600.0
IDLE = IDLE_MINUTES * MINUTE


def arrivals(per_minute: float, begin: float, end: float, seed: int = 0) -> Iterator[float]:
    """A Poisson process."""
    chance = random.Random(seed)
    time = begin
    while (time := time + chance.expovariate(per_minute / MINUTE)) < end:
        yield time


def assert_all_answered(world: World) -> None:
    """Once each, without waiting for a service that is not there, and what was under way when it ended at once anew."""
    ends = times(world, Stage.OFF)
    for request in world.requests:
        [(_, begun)] = request.answers
        lost = any(0 <= end - request.arrived <= BY_GPU for end in ends)
        assert begun - request.arrived <= (BY_GPU if lost else REFUSED) + 1e-6  # sums of floats


def times(world: World, stage: Stage) -> list[float]:
    return [time for time, entered in world.service.stages if entered is stage]


def by_gpu(world: World, begin: float = 0, end: float = float("inf")) -> float:
    """The share of requests that the service answered, of those that came between two times."""
    answers = [request.answers[0][0] for request in world.requests if begin <= request.arrived < end]
    return answers.count("gpu") / len(answers)


def test_it_wakes_when_requests_come_answers_them_and_sleeps_when_they_are_gone() -> None:
    world = World()
    world.arrive(arrivals(2 * WAKE_REQUESTS, 0, HOUR))
    world.run(2 * HOUR)

    assert_all_answered(world)
    assert [stage for _, stage in world.service.stages] == [Stage.STARTING, Stage.READY, Stage.DRAINING, Stage.OFF]
    [ready], [ended] = times(world, Stage.READY), times(world, Stage.DRAINING)
    assert ready <= 2 * MINUTE + START
    assert ended <= HOUR + IDLE + MINUTE
    assert by_gpu(world, 0, ready) == 0
    # Each environment finds out by itself, at the latest when its next look is due.
    assert by_gpu(world, ready + LONGEST_PAUSE_SECONDS + MINUTE, HOUR) > 0.99


def test_a_trickle_does_not_wake_it() -> None:
    world = World()
    world.arrive(arrivals(WAKE_REQUESTS / 2, 0, 3 * HOUR))
    world.run(4 * HOUR)
    assert_all_answered(world)
    assert world.service.stages == []


def bursts(every: float, count: int) -> Iterator[float]:
    for burst in range(count):
        yield from arrivals(5 * WAKE_REQUESTS, burst * every, burst * every + MINUTE, seed=burst)


def test_bursts_that_follow_each_other_wake_it_once() -> None:
    world = World()
    world.arrive(bursts(every=IDLE - 2 * MINUTE, count=12))
    world.run(5 * HOUR)
    assert_all_answered(world)
    assert len(times(world, Stage.STARTING)) == len(times(world, Stage.OFF)) == 1


def test_bursts_far_apart_wake_it_once_each() -> None:
    world = World()
    world.arrive(bursts(every=HOUR, count=4))
    world.run(5 * HOUR)
    assert_all_answered(world)
    assert len(times(world, Stage.STARTING)) == len(times(world, Stage.OFF)) == 4


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_traffic_about_as_high_as_what_wakes_it_does_not_make_it_flap(share: float) -> None:
    world = World()
    world.arrive(arrivals(share * WAKE_REQUESTS, 0, 6 * HOUR))
    world.run(7 * HOUR)
    assert_all_answered(world)
    # It is there for at least as long as it takes to fall asleep.
    woken = times(world, Stage.STARTING)
    assert woken
    assert all(after - before > IDLE for before, after in pairwise(woken))


def test_messages_wake_it_as_well_and_each_is_worked_on_once() -> None:
    world = World()
    sent = 40 * WAKE_MESSAGES
    world.after(MINUTE, lambda: world.send(sent))
    world.run(2 * HOUR)
    assert world.messages["waiting"] == 0
    assert world.messages["by_gpu"] + world.messages["by_cpu"] == sent
    assert world.messages["by_gpu"] > sent / 2
    assert len(times(world, Stage.STARTING)) == len(times(world, Stage.OFF)) == 1


@pytest.mark.parametrize("seed", range(2))
def test_however_often_it_ends_nothing_is_lost(seed: int) -> None:
    """Spot instances that are taken away with notice, tasks that are killed without."""
    world = World()
    world.arrive(arrivals(3 * WAKE_REQUESTS, 0, 1.5 * HOUR, seed))
    world.after(MINUTE, lambda: world.send(20 * WAKE_MESSAGES))
    chance = random.Random(seed)
    for accident in (world.service.interrupt, world.service.kill) * 4:
        world.after(chance.uniform(10 * MINUTE, 1.5 * HOUR), accident)
    world.run(3 * HOUR)

    assert_all_answered(world)
    assert by_gpu(world) > 0.3
    assert world.messages["waiting"] == 0
    assert world.messages["by_gpu"] + world.messages["by_cpu"] == 20 * WAKE_MESSAGES
    assert world.service.stages[-1][1] is Stage.OFF


def test_beliefs_change_as_often_as_the_service_does() -> None:
    world = World()
    world.arrive(arrivals(3 * WAKE_REQUESTS, 0, 1.5 * HOUR))
    for time in (15 * MINUTE, 40 * MINUTE, HOUR):
        world.after(time, world.service.interrupt)
    world.run(2 * HOUR)
    assert_all_answered(world)
    assert len(times(world, Stage.DRAINING)) == 4
    assert 0 < world.beliefs[Belief.SUSPECT] <= world.environments * 4  # it falls asleep at the end
