"""How a generation over the scheduler ends: stopped, cancelled, too late or failed, and how the scheduler does."""

import threading
import time

import pytest

from handler.inference.protocol import (
    ChoiceFinished,
    Event,
)
from handler.inference.scheduler import Scheduler
from tests.fake_engine import CONTEXT, FakeEngine, continuation
from tests.generations import greedy, reasons_of, tokens_of
from tests.serving import wait_until


def test_a_stop_token_ends_a_choice_and_is_not_part_of_it(scheduler: Scheduler) -> None:
    expected = continuation((1, 2, 3), 10)
    stop = expected[4]
    events = list(scheduler.submit(greedy((1, 2, 3), max_tokens=10, stop_tokens=frozenset({stop}))))

    assert tokens_of(events)[0] == expected[: expected.index(stop)]
    assert reasons_of(events) == {0: "stop"}


def test_a_cancelled_choice_frees_its_slot_and_the_others_go_on() -> None:
    engine = FakeEngine(seconds_per_step=0.002)
    scheduler = Scheduler(engine)
    generation = scheduler.submit(greedy((1,), (2,), max_tokens=30))
    events: list[Event] = []
    for event in generation:
        events.append(event)
        if len(events) == 4:
            generation.cancel(0)
    scheduler.close()

    assert len(tokens_of(events)[0]) <= 3
    assert tokens_of(events)[1] == continuation((2,), 30)
    assert reasons_of(events) == {1: "length"}
    assert engine.steps.count(2) <= 5


def test_cancelling_a_request_ends_its_iteration_and_frees_everything(scheduler: Scheduler, engine: FakeEngine) -> None:
    generation = scheduler.submit(greedy((1,), (2,), max_tokens=60))
    for _ in generation:
        generation.cancel()
    wait_until(engine.idle.is_set)

    assert sorted(engine.free) == list(range(8))


def test_the_deadline_ends_a_choice_with_what_it_has() -> None:
    engine = FakeEngine(seconds_per_step=0.02)
    scheduler = Scheduler(engine)
    events = list(scheduler.submit(greedy((1,), max_tokens=60, deadline=time.time() + 0.2)))
    scheduler.close()

    tokens = tokens_of(events)[0]
    assert 1 <= len(tokens) < 20
    assert tokens == continuation((1,), len(tokens))
    assert reasons_of(events) == {0: "deadline"}


def test_after_the_deadline_nothing_is_computed(scheduler: Scheduler, engine: FakeEngine) -> None:
    events = list(scheduler.submit(greedy((1,), max_tokens=5, deadline=time.time() - 1)))

    assert events == [ChoiceFinished(0, "deadline")]
    assert engine.prefilled == 0


def test_an_error_of_the_engine_reaches_its_requests_and_the_scheduler_lives_on(
    scheduler: Scheduler, engine: FakeEngine
) -> None:
    engine.fail_with = ArithmeticError("a kernel failed")
    with pytest.raises(ArithmeticError, match="a kernel failed"):
        list(scheduler.submit(greedy((1,), max_tokens=5)))
    engine.fail_with = None

    assert tokens_of(list(scheduler.submit(greedy((1,), max_tokens=5)))) == {0: continuation((1,), 5)}
    wait_until(engine.idle.is_set)


def test_closing_ends_what_is_under_way_with_an_error() -> None:
    engine = FakeEngine(seconds_per_step=0.01)
    scheduler = Scheduler(engine)
    generation = scheduler.submit(greedy((1,), max_tokens=CONTEXT - 1))
    next(iter(generation))
    scheduler.close()

    with pytest.raises(RuntimeError, match="closed"):
        list(generation)
    with pytest.raises(RuntimeError, match="closed"):
        scheduler.submit(greedy((1,)))


def test_a_rest_finishes_what_is_under_way_and_ends_with_the_next_request(scheduler: Scheduler) -> None:
    def threads() -> int:
        return sum(thread.name == "scheduler" for thread in threading.enumerate())

    before = threads()
    first = scheduler.submit(greedy((1, 2), max_tokens=5))
    scheduler.rest()
    scheduler.rest()
    assert threads() == before
    assert tokens_of(list(first)) == {0: continuation((1, 2), 5)}
    assert tokens_of(list(scheduler.submit(greedy((3,), max_tokens=2)))) == {0: continuation((3,), 2)}


def test_what_is_retired_finishes_its_work_and_holds_no_thread_however_often_it_is_asked(scheduler: Scheduler) -> None:
    def threads() -> int:
        return sum(thread.name == "scheduler" for thread in threading.enumerate())

    before = threads()
    first = scheduler.submit(greedy((1, 2), max_tokens=5))
    scheduler.retire()
    assert threads() == before
    assert tokens_of(list(first)) == {0: continuation((1, 2), 5)}
    assert tokens_of(list(scheduler.submit(greedy((3,), max_tokens=2)))) == {0: continuation((3,), 2)}
    scheduler.retire()
    assert threads() == before
