"""What the front believes of the GPU service, sign by sign."""

import pytest

from handler.tandem.rules import (
    FIRST_BYTE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    LOOK_SECONDS,
    MEMORY_SECONDS,
    TRANSITIONS,
    Belief,
    Rules,
    Sign,
    first_byte_seconds,
)

# The shortest way to each belief.
WAYS = {
    Belief.UNKNOWN: [],
    Belief.ASLEEP: [Sign.NOT_READY],
    Belief.AWAKE: [Sign.READY],
    Belief.SUSPECT: [Sign.READY, Sign.FAILED],
}

SEEN = [sign for sign in Sign if sign is not Sign.SILENCE]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rules_after(clock: Clock, signs: list[Sign]) -> Rules:
    rules = Rules(clock)
    for sign in signs:
        rules.see(sign)
    return rules


@pytest.mark.parametrize("sign", SEEN)
@pytest.mark.parametrize("belief", Belief)
def test_each_sign_changes_a_belief_as_the_table_says(clock: Clock, belief: Belief, sign: Sign) -> None:
    assert rules_after(clock, WAYS[belief]).belief is belief
    assert rules_after(clock, [*WAYS[belief], sign]).belief is TRANSITIONS.get((belief, sign), belief)


@pytest.mark.parametrize("belief", Belief)
def test_what_was_seen_long_ago_says_nothing_about_now(clock: Clock, belief: Belief) -> None:
    rules = rules_after(clock, WAYS[belief])
    clock.now += MEMORY_SECONDS
    assert rules.belief is TRANSITIONS.get((belief, Sign.SILENCE), belief)
    assert rules.belief is not Belief.AWAKE
    assert rules.look_due()


def test_only_a_look_makes_a_service_awake() -> None:
    assert {sign for (_, sign), belief in TRANSITIONS.items() if belief is Belief.AWAKE} == {Sign.READY}


def pause(clock: Clock, rules: Rules) -> float:
    """Seconds until the next look is due."""
    began = clock.now
    while not rules.look_due():
        clock.now += 0.5
    return clock.now - began


def test_a_service_that_sleeps_is_looked_at_less_and_less_often(clock: Clock) -> None:
    rules = Rules(clock)
    pauses = []
    for _ in range(8):
        pauses.append(pause(clock, rules))
        rules.see(Sign.NOT_READY)
    assert pauses == [0, 1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]


def test_one_that_looks_ready_and_answers_nothing_is_tried_less_and_less_often(clock: Clock) -> None:
    rules = Rules(clock)
    pauses = []
    for _ in range(7):
        rules.see(Sign.READY)
        rules.see(Sign.FAILED)
        pauses.append(pause(clock, rules))
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    rules.see(Sign.READY)
    rules.see(Sign.ANSWERED)
    rules.see(Sign.FAILED)
    assert pause(clock, rules) == 1


def test_many_requests_that_fail_at_once_are_one_failure(clock: Clock) -> None:
    rules = rules_after(clock, [Sign.READY, *[Sign.FAILED] * 20])
    assert pause(clock, rules) == 1


def test_one_that_answers_need_not_be_looked_at(clock: Clock) -> None:
    rules = rules_after(clock, [Sign.READY])
    for _ in range(10):
        clock.now += LOOK_SECONDS - 1
        assert not rules.look_due()
        rules.see(Sign.ANSWERED)
    assert pause(clock, rules) == LOOK_SECONDS


@pytest.mark.parametrize(
    ("left", "seconds"), [(None, FIRST_BYTE_SECONDS), (900, FIRST_BYTE_SECONDS), (28, 14), (-1, 0)]
)
def test_half_of_the_time_is_kept_for_a_second_try(left: float | None, seconds: float) -> None:
    assert first_byte_seconds(left) == seconds
