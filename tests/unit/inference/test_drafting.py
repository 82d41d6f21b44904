"""Drafts: what is guessed, when, at what cost, and that the text does not depend on them."""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from handler.inference.drafting import LONGEST_DRAFT, PAUSE, Drafter
from handler.inference.packed import LAYOUT_BITS
from handler.inference.protocol import (
    ChoiceFinished,
    Event,
    GenerationRequest,
    SamplingParams,
    StepEngine,
    TokenGenerated,
)
from handler.inference.scheduler import STEP_TOKENS, Scheduler
from tests.fake_engine import CONTEXT, FakeEngine, Rule, cycle, next_token
from tests.models import ENGINES, config_json, step_engine

GREEDY = SamplingParams(temperature=0)
WARM = SamplingParams(temperature=0.8, seed=3)
ROUND = (0, 1, 2, 3, 4, 5, 6)


def counting(tokens: Sequence[int], vocabulary: int) -> int:
    """A text in which nothing occurs twice."""
    return (tokens[-1] + 1) % vocabulary


def run(engine: StepEngine, request: GenerationRequest, *, drafting: bool = True) -> dict[int, list[Event]]:
    """The events of each choice."""
    scheduler = Scheduler(engine, drafting=drafting)
    events = defaultdict(list)
    for event in scheduler.submit(request):
        events[event.choice].append(event)
    scheduler.close()
    return dict(events)


class TestDrafter:
    def test_what_followed_the_same_three_tokens_is_the_draft(self) -> None:
        drafter = Drafter([1, 2, 3, 4, 5, 9, 2, 3, 7, 1, 2, 3])
        assert drafter.propose(2) == [4, 5]
        assert drafter.propose(1) == [4]
        assert drafter.propose(0) == []

    def test_of_several_places_the_latest_counts(self) -> None:
        assert Drafter([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3]).propose(1) == [5]

    def test_two_tokens_do_where_three_have_not_occurred(self) -> None:
        assert Drafter([1, 2, 3, 4, 9, 2, 3]).propose(2) == [4, 9]

    @pytest.mark.parametrize("prompt", [[], [1], [1, 2], [1, 1], [1, 2, 3, 4, 5, 4]])
    def test_without_a_repetition_there_is_no_draft(self, prompt: list[int]) -> None:
        assert Drafter(prompt).propose(5) == []

    def test_added_tokens_are_looked_up_and_found(self) -> None:
        drafter = Drafter([1, 2])
        for token in (3, 4, 1, 2):
            assert drafter.propose(5) == []
            drafter.add(token)
        assert drafter.propose(5) == [3, 4]

    def test_a_repetition_goes_on_beyond_the_end(self) -> None:
        drafter = Drafter([5, 6, 5, 6, 5, 6])
        drafter.checked(2, 2)
        drafter.checked(4, 4)
        assert drafter.propose(7) == [5, 6, 5, 6, 5, 6, 5]

    def test_drafts_grow_while_they_are_right_and_shrink_when_wrong(self) -> None:
        drafter = Drafter([1] * 30)
        lengths = [len(drafter.propose(100))]
        for accepted in (2, 4, LONGEST_DRAFT, 5, 0, 1, 2):
            drafter.checked(lengths[-1], accepted)
            lengths.append(len(drafter.propose(100)))
        assert lengths == [2, 4, LONGEST_DRAFT, LONGEST_DRAFT, 5, 2, 1, 2]

    def test_after_failures_drafting_pauses_and_tries_again(self) -> None:
        drafter = Drafter([1] * 30)
        drafter.checked(2, 0)
        drafter.checked(1, 0)
        lengths = []
        for _ in range(PAUSE + 1):
            lengths.append(len(drafter.propose(100)))
            drafter.add(1)
        assert lengths == [0] * PAUSE + [1]


REQUESTS = {
    "greedy": GenerationRequest((ROUND + ROUND,), (GREEDY,), max_tokens=40),
    "nothing": GenerationRequest((ROUND + ROUND,), (GREEDY,), max_tokens=0),
    "one": GenerationRequest((ROUND + ROUND,), (GREEDY,), max_tokens=1),
    "sampled": GenerationRequest((ROUND + ROUND,), (WARM,), max_tokens=50),
    "samples": GenerationRequest((ROUND,), (WARM,), n=3, max_tokens=50),
    "more than there are slots": GenerationRequest((ROUND, (3, 4)), (WARM, GREEDY), n=4, max_tokens=40),
    "prompts": GenerationRequest((ROUND, (3, 4), (2,)), (GREEDY, WARM, replace(WARM, top_p=0.5)), max_tokens=45),
    "penalties": GenerationRequest(
        (ROUND + ROUND,), (replace(GREEDY, repetition_penalty=1.5, frequency_penalty=0.5),), n=2, max_tokens=45
    ),
    "presence": GenerationRequest((ROUND,), (replace(WARM, presence_penalty=1.5),), n=2, max_tokens=45),
    "stop": GenerationRequest((ROUND, (1, 2, 1)), (WARM,) * 2, n=2, max_tokens=45, stop_tokens=frozenset({5, 30})),
    "logprobs": GenerationRequest((ROUND, (4,)), (WARM,) * 2, max_tokens=45, logprobs=3, prompt_logprobs=True),
    "whole context": GenerationRequest((ROUND, (1,)), (GREEDY,) * 2, max_tokens=CONTEXT - len(ROUND)),
}


@pytest.mark.parametrize("rule", [cycle, next_token, counting])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_drafts_change_nothing_in_the_answer(rule: Rule, request_: GenerationRequest) -> None:
    drafted, plain = (FakeEngine(slots=4, vocabulary_size=150, rule=rule) for _ in range(2))
    assert run(drafted, request_) == run(plain, request_, drafting=False)
    assert drafted.held == plain.held == {}


@pytest.mark.native
@pytest.mark.parametrize("kind", LAYOUT_BITS)
def test_drafts_change_nothing_on_the_native_engine(kind: str) -> None:
    """Among random weights even the greedy text runs in circles, and so is drafted."""
    params = (GREEDY, replace(GREEDY, frequency_penalty=0.1), replace(WARM, temperature=0.3))
    request = GenerationRequest(((5, 6, 7), (1, 2), (9, 8, 9, 8)), params, n=2, max_tokens=55, logprobs=1)
    engine = step_engine(kind, config_json(), slots=4)
    answer = run(engine, request)
    assert answer == run(engine, request, drafting=False)

    tokens = [event.token for event in answer[0] if isinstance(event, TokenGenerated)]
    assert Drafter([5, 6, 7, *tokens]).propose(1)


def test_a_repeating_text_takes_a_step_for_several_tokens() -> None:
    engine = FakeEngine(rule=cycle)
    run(engine, GenerationRequest((ROUND + ROUND,), (GREEDY,), max_tokens=40))
    # The prompt yields a token; then the drafts grow, each step yielding its draft and one token more.
    assert engine.chunks == [[14], [3], [5], [8], [8], [8], [7]]
    assert engine.steps == []


def test_a_text_without_repetition_costs_nothing_more() -> None:
    engine = FakeEngine(vocabulary_size=150, rule=counting)
    run(engine, GenerationRequest((ROUND,), (GREEDY,), max_tokens=50))
    assert engine.chunks == [[7]]
    assert engine.steps == [1] * 49


def test_misleading_repetitions_cost_few_tokens_more() -> None:
    """Of five tokens every pair occurs again soon, and what follows it is chance."""
    engine = FakeEngine(vocabulary_size=5, context_length=2000, rule=next_token)
    run(engine, GenerationRequest(((0,),), (GREEDY,), max_tokens=1900))
    read = engine.prefilled - 1 + sum(engine.steps)
    assert len(engine.chunks) + len(engine.steps) < 1900
    assert read < 1.15 * 1900


@pytest.mark.parametrize("choices", [3, 7])
def test_drafts_of_several_choices_share_the_room_of_a_step(choices: int) -> None:
    engine = FakeEngine(rule=cycle)
    run(engine, GenerationRequest((ROUND + ROUND,) * choices, (GREEDY,) * choices, max_tokens=40))
    _, *steps = engine.chunks
    assert steps
    assert max(map(sum, steps)) == STEP_TOKENS
    assert len(steps) + len(engine.steps) < 39


def test_a_large_batch_leaves_no_room_for_drafts() -> None:
    engine = FakeEngine(rule=cycle)
    run(engine, GenerationRequest((ROUND + ROUND,) * 8, (GREEDY,) * 8, max_tokens=40))
    assert engine.chunks == [[14] * 8]
    assert engine.steps == [8] * 39


def test_an_engine_whose_logits_depend_on_the_chunks_is_given_no_drafts() -> None:
    engine = FakeEngine(rule=cycle)
    engine.batch_invariant = False
    run(engine, GenerationRequest((ROUND + ROUND,), (GREEDY,), max_tokens=40))
    assert engine.chunks == [[14]]
    assert engine.steps == [1] * 39


def test_a_choice_cancelled_while_drafts_are_checked_leaves_the_others_as_they_are() -> None:
    engine = FakeEngine(seconds_per_step=0.002, rule=cycle)
    request = GenerationRequest((ROUND + ROUND, (4, 5, 6)), (WARM, WARM), max_tokens=45)
    expected = run(FakeEngine(rule=cycle), request, drafting=False)
    scheduler = Scheduler(engine)
    generation = scheduler.submit(request)
    events: list[Event] = []
    for event in generation:
        events.append(event)
        if len(events) == 5:
            generation.cancel(0)
    scheduler.close()

    first = [event for event in events if event.choice == 0]
    assert [event for event in events if event.choice == 1] == expected[1]
    assert first == expected[0][: len(first)]
    assert not any(isinstance(event, ChoiceFinished) for event in first)
    assert engine.held == {}


def test_time_is_up_between_steps_that_check_drafts_and_what_was_right_is_kept() -> None:
    permits = threading.Semaphore(3)  # one for the prompt, two for steps with drafts
    engine = FakeEngine(rule=cycle, permits=permits)
    request = GenerationRequest((ROUND + ROUND,), (GREEDY,), max_tokens=45)
    expected = run(FakeEngine(rule=cycle), request, drafting=False)[0]
    deadline = time.time() + 0.2
    scheduler = Scheduler(engine)
    generation = scheduler.submit(replace(request, deadline=deadline))
    while time.time() < deadline:
        time.sleep(0.01)
    permits.release(2)  # for a third, should the engine be asked for one more before it is late
    *tokens, end = generation
    scheduler.close()

    assert tokens == expected[: len(tokens)]
    assert end == ChoiceFinished(0, "deadline")
    assert len(tokens) > len(engine.chunks)  # drafts were right, some of them
    assert len(tokens) < 45
    assert engine.held == {}


@pytest.mark.parametrize("kind", ENGINES)
def test_a_truncated_slot_goes_on_as_if_nothing_had_been_behind(kind: str) -> None:
    engine = step_engine(kind, config_json())
    first, second = engine.acquire(), engine.acquire()
    assert first is not None
    assert second is not None
    engine.prefill([first], [range(20)])
    engine.truncate(first, 12)
    engine.prefill([second], [range(12)])
    for tokens in [(5,), (6,), (7,)]:
        truncated = engine.decode([first], tokens).copy()
        np.testing.assert_allclose(truncated, engine.decode([second], tokens), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="holds 15 tokens, not 16"):
        engine.truncate(first, 16)
