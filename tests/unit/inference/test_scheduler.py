"""The scheduler over an engine whose every token is known in advance: who is computed when, and what comes out."""

import threading
import time

import pytest

from handler.inference.protocol import (
    ChoiceFinished,
    GenerationRequest,
    Load,
    PromptScored,
    SamplingParams,
    TokenGenerated,
)
from handler.inference.scheduler import PREFILL_TOKENS, Scheduler
from tests.fake_engine import VOCABULARY, FakeEngine, continuation
from tests.generations import GREEDY, greedy, reasons_of, tokens_of
from tests.serving import wait_until

WARM = SamplingParams(temperature=1, seed=1)


def test_a_prompt_is_continued_and_its_slot_given_back(scheduler: Scheduler, engine: FakeEngine) -> None:
    events = list(scheduler.submit(greedy((1, 2, 3), max_tokens=5)))

    expected = continuation((1, 2, 3), 5)
    assert events == [*(TokenGenerated(0, token, None) for token in expected), ChoiceFinished(0, "length")]
    wait_until(engine.idle.is_set)


def test_nothing_is_given_a_place_before_it_was_asked_for(engine: FakeEngine) -> None:
    class Slow(Scheduler):
        """What asks is slower than the thread that gives places."""

        @property
        def name(self) -> str:
            time.sleep(0.01)
            return super().name

    scheduler = Slow(engine)
    generation = scheduler.submit(greedy((1,), max_tokens=1))
    list(generation)
    assert generation.admitted is not None
    assert generation.admitted >= generation.submitted
    scheduler.close()


def test_prompts_of_different_lengths_are_decoded_together_and_each_as_if_alone(
    scheduler: Scheduler, engine: FakeEngine
) -> None:
    prompts = ((1,), (2, 3, 4, 5), tuple(range(1, 30)))
    events = list(scheduler.submit(greedy(*prompts, max_tokens=6)))

    assert tokens_of(events) == {i: continuation(prompt, 6) for i, prompt in enumerate(prompts)}
    assert engine.steps == [3] * 5  # the first token of each comes from the prefill


def test_samples_share_one_prefill_and_differ(engine: FakeEngine) -> None:
    scheduler = Scheduler(engine, drafting=False)
    events = list(scheduler.submit(GenerationRequest(((1, 2, 3),), (WARM,), n=4, max_tokens=20)))
    scheduler.close()

    assert engine.prefilled == 3
    assert len({tuple(tokens) for tokens in tokens_of(events).values()}) == 4


def test_a_sample_does_not_depend_on_its_company(scheduler: Scheduler) -> None:
    alone = tokens_of(list(scheduler.submit(GenerationRequest(((1, 2),), (WARM,), n=2, max_tokens=12))))
    crowd = GenerationRequest(((9,), (1, 2), (4, 5, 6)), (WARM,) * 3, n=2, max_tokens=12)
    together = tokens_of(list(scheduler.submit(crowd)))

    assert [together[2], together[3]] == [alone[0], alone[1]]


def test_choices_beyond_the_slots_wait_their_turn() -> None:
    engine = FakeEngine(slots=2)
    scheduler = Scheduler(engine)
    prompts = tuple((i, i + 1) for i in range(1, 8))
    events = list(scheduler.submit(greedy(*prompts, max_tokens=4)))
    scheduler.close()

    assert tokens_of(events) == {i: continuation(prompt, 4) for i, prompt in enumerate(prompts)}
    assert max(engine.steps) == 2


def test_who_waits_for_a_slot_is_admitted_later() -> None:
    permits = threading.Semaphore(0)
    scheduler = Scheduler(FakeEngine(slots=1, permits=permits))
    first, second = (scheduler.submit(greedy((1,), max_tokens=2)) for _ in range(2))
    at_first = second.admitted
    permits.release(100)
    assert reasons_of([*first, *second]) == {0: "length"}
    scheduler.close()

    assert at_first is None
    assert first.admitted is not None
    assert second.admitted is not None
    assert first.submitted <= first.admitted < second.admitted
    assert first.submitted <= second.submitted < second.admitted


def test_samples_beyond_the_slots_read_the_prompt_again_if_need_be() -> None:
    engine = FakeEngine(slots=1)
    scheduler = Scheduler(engine)
    events = list(scheduler.submit(GenerationRequest(((1, 2, 3),), (GREEDY,), n=3, max_tokens=4)))
    scheduler.close()

    assert tokens_of(events) == dict.fromkeys(range(3), continuation((1, 2, 3), 4))
    assert engine.prefilled == 9


def test_requests_join_the_running_batch() -> None:
    engine = FakeEngine(seconds_per_step=0.005)
    scheduler = Scheduler(engine)
    first = iter(scheduler.submit(greedy((1,), max_tokens=40)))
    next(first)
    second = list(scheduler.submit(greedy((2,), max_tokens=5)))
    rest = list(first)
    scheduler.close()

    assert tokens_of(second) == {0: continuation((2,), 5)}
    assert len(rest) == 40  # 39 tokens and the end
    assert 2 in engine.steps


def test_it_says_how_busy_it_is() -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(slots=4, permits=permits)
    scheduler = Scheduler(engine, drafting=False)
    idle = scheduler.load()
    generation = scheduler.submit(greedy((1,), (2,), (3,), n=2, max_tokens=2))
    permits.release()  # one step reads the prompts, and the next one waits for a permit
    first = next(iter(generation))
    busy = scheduler.load()
    permits.release(50)
    rest = list(generation)
    wait_until(engine.idle.is_set)
    scheduler.close()

    assert idle == Load(running=0, waiting=0, places=4, cache_use=0)
    assert (busy.running + busy.waiting, busy.places, busy.cache_use) == (6, 4, busy.running / 4)
    assert 3 <= busy.running <= 4
    assert len([first, *rest]) == 18


def test_a_prompt_is_scored_token_by_token(scheduler: Scheduler) -> None:
    prompt = (1, 2, 3, 4)
    request = greedy(prompt, max_tokens=0, prompt_logprobs=True, logprobs=2)
    scored, finished = list(scheduler.submit(request))

    assert isinstance(scored, PromptScored)
    assert finished == ChoiceFinished(0, "length")
    first, *rest = scored.logprobs
    assert first is None
    # One logit of 5 among 49 of 0: the favourite has probability e^5 / (e^5 + 49).
    for i, entry in enumerate(rest):
        assert entry is not None
        assert entry.token == prompt[i + 1]
        assert [token for token, _ in entry.top] == [continuation(prompt[: i + 1], 1)[0], 0]
        assert [logprob for _, logprob in entry.top] == pytest.approx([-0.28529, -5.28529], abs=1e-4)


def test_all_samples_of_a_scored_prompt_get_its_scores(scheduler: Scheduler, engine: FakeEngine) -> None:
    request = greedy((1, 2, 3), n=2, max_tokens=3, prompt_logprobs=True, logprobs=0)
    events = list(scheduler.submit(request))

    scores = {event.choice: event.logprobs for event in events if isinstance(event, PromptScored)}
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3
    assert engine.prefilled == 3


def test_a_long_prompt_is_read_in_pieces_with_the_same_result() -> None:
    engine = FakeEngine(context_length=4 * PREFILL_TOKENS)
    prompt = tuple(i % (VOCABULARY - 1) + 1 for i in range(2 * PREFILL_TOKENS + 5))
    scheduler = Scheduler(engine)
    events = list(scheduler.submit(greedy(prompt, max_tokens=3, prompt_logprobs=True, logprobs=0)))
    scheduler.close()

    assert tokens_of(events)[0] == continuation(prompt, 3)
    scored = events[0]
    assert isinstance(scored, PromptScored)
    assert [entry.token for entry in scored.logprobs if entry] == list(prompt[1:])
