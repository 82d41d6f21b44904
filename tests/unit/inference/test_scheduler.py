"""The scheduler over an engine whose every token is known in advance."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from handler.inference.protocol import (
    ChoiceFinished,
    Event,
    GenerationRequest,
    Load,
    PromptScored,
    SamplingParams,
    TokenGenerated,
)
from handler.inference.scheduler import PREFILL_TOKENS, Scheduler
from tests.fake_engine import CONTEXT, VOCABULARY, FakeEngine, continuation

GREEDY = SamplingParams(temperature=0)
WARM = SamplingParams(temperature=1, seed=1)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def scheduler(engine: FakeEngine) -> Iterator[Scheduler]:
    scheduler = Scheduler(engine)
    yield scheduler
    scheduler.close()


def greedy(*prompts: tuple[int, ...], **fields: object) -> GenerationRequest:
    return GenerationRequest(prompts, (GREEDY,) * len(prompts), **fields)  # type: ignore[arg-type]


def tokens_of(events: list[Event]) -> dict[int, list[int]]:
    tokens = defaultdict(list)
    for event in events:
        if isinstance(event, TokenGenerated):
            tokens[event.choice].append(event.token)
    return dict(tokens)


def reasons_of(events: list[Event]) -> dict[int, str]:
    return {event.choice: event.reason for event in events if isinstance(event, ChoiceFinished)}


def wait_until_idle(scheduler: Scheduler, engine: FakeEngine) -> None:
    for _ in range(500):
        if not engine.held:
            return
        time.sleep(0.002)
    raise AssertionError(f"slots still held: {engine.held}")


def test_a_prompt_is_continued_and_its_slot_given_back(scheduler: Scheduler, engine: FakeEngine) -> None:
    events = list(scheduler.submit(greedy((1, 2, 3), max_tokens=5)))

    expected = continuation((1, 2, 3), 5)
    assert events == [*(TokenGenerated(0, token, None) for token in expected), ChoiceFinished(0, "length")]
    wait_until_idle(scheduler, engine)


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
    wait_until_idle(scheduler, engine)
    scheduler.close()

    assert idle == Load(running=0, waiting=0, places=4, cache_use=0)
    assert (busy.running + busy.waiting, busy.places, busy.cache_use) == (6, 4, busy.running / 4)
    assert 3 <= busy.running <= 4
    assert len([first, *rest]) == 18


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
    wait_until_idle(scheduler, engine)

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


def test_an_error_of_the_engine_reaches_its_requests_and_the_scheduler_lives_on(
    scheduler: Scheduler, engine: FakeEngine
) -> None:
    engine.fail_with = ArithmeticError("a kernel failed")
    with pytest.raises(ArithmeticError, match="a kernel failed"):
        list(scheduler.submit(greedy((1,), max_tokens=5)))
    engine.fail_with = None

    assert tokens_of(list(scheduler.submit(greedy((1,), max_tokens=5)))) == {0: continuation((1,), 5)}
    wait_until_idle(scheduler, engine)


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
