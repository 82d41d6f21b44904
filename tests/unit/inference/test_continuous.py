"""transformers' continuous batching as a backend, on a small model with random weights."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.continuous_batching import PagedAttentionCache

from handler.errors import EngineError, EngineUnavailableError, UnsupportedModelError
from handler.inference.continuous import ContinuousBackend
from handler.inference.paging import ATTENTION, PAGE_TOKENS, blocks_of, new_manager
from handler.inference.protocol import (
    ChoiceFinished,
    GenerationRequest,
    Load,
    SamplingParams,
    TokenGenerated,
)
from tests.generations import greedy, tokens_of
from tests.serving import PATIENCE, wait_until
from tests.transformers_peer import Model

VOCABULARY, CONTEXT = 300, 64

# A token in 32 bits: two layers' keys and values of 4 heads of 8.
TOKEN_BYTES = 2 * 2 * 4 * 8 * 4
SEQUENCE_BYTES = CONTEXT * TOKEN_BYTES
UNUSED_BYTES = 2 * PAGE_TOKENS * TOKEN_BYTES


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_head=4, n_embd=32, n_positions=CONTEXT, vocab_size=VOCABULARY, initializer_range=0.5
    )
    config._attn_implementation = ATTENTION
    loaded: Model = GPT2LMHeadModel(config)
    return loaded.eval()


def backend_of(model: Model, *, sequences: int = 4) -> ContinuousBackend:
    room = sequences * SEQUENCE_BYTES + UNUSED_BYTES
    return ContinuousBackend(model, name="continuous-test", context_length=CONTEXT, cache_bytes=room)


@pytest.fixture(scope="module")
def backend(model: Model) -> Iterator[ContinuousBackend]:
    backend = backend_of(model)
    yield backend
    backend.close()


def warm(*prompts: tuple[int, ...], n: int = 1, max_tokens: int = 20, **sampling: object) -> GenerationRequest:
    params = SamplingParams(**sampling)  # type: ignore[arg-type]
    return GenerationRequest(prompts, (params,) * len(prompts), n=n, max_tokens=max_tokens, reproducible=False)


def generated(model: Model, prompt: Sequence[int], count: int) -> list[int]:
    """transformers' own greedy output."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, eos_token_id=-1, pad_token_id=0
    )
    return list(output[0, len(prompt) :].tolist())


def test_greedy_output_is_that_of_generate_however_many_go_together(model: Model, backend: ContinuousBackend) -> None:
    prompts = tuple(tuple(range(i, i + length)) for i, length in ((1, 1), (20, 7), (40, 30), (2, 17), (9, 3)))
    events = list(backend.submit(greedy(*prompts, max_tokens=20)))

    assert tokens_of(events) == {i: generated(model, prompt, 20) for i, prompt in enumerate(prompts)}
    assert {event for event in events if isinstance(event, ChoiceFinished)} == {
        ChoiceFinished(i, "length") for i in range(len(prompts))
    }


def test_a_stop_token_ends_a_choice_and_is_not_part_of_it(model: Model, backend: ContinuousBackend) -> None:
    expected = generated(model, (1, 2, 3), 10)
    stop = expected[4]
    events = list(backend.submit(greedy((1, 2, 3), max_tokens=10, stop_tokens=frozenset({stop, 299}))))

    assert events == [
        *(TokenGenerated(0, token, None) for token in expected[: expected.index(stop)]),
        ChoiceFinished(0, "stop"),
    ]


def test_who_does_not_look_at_each_token_gets_them_all_the_same(model: Model, backend: ContinuousBackend) -> None:
    generation = backend.submit(greedy((1, 2, 3), max_tokens=10, piecewise=False))
    assert tokens_of(generation) == {0: generated(model, (1, 2, 3), 10)}


def test_each_request_is_sampled_in_its_own_way(model: Model, backend: ContinuousBackend) -> None:
    best = generated(model, (1, 2, 3), 20)
    ways = [
        warm((1, 2, 3), temperature=1e-40),  # too small for 32 bits
        warm((1, 2, 3), temperature=5.0, top_k=1),
        warm((1, 2, 3), temperature=5.0, top_p=1e-9),
        warm((1, 2, 3), temperature=5.0),
        greedy((1, 2, 3), max_tokens=20),
    ]
    outputs = [tokens_of(generation)[0] for generation in [backend.submit(way) for way in ways]]

    assert [output == best for output in outputs] == [True, True, True, False, True]


def test_samples_of_one_prompt_differ(backend: ContinuousBackend) -> None:
    outputs = tokens_of(backend.submit(warm((1, 2, 3), n=4, temperature=3.0)))
    assert {index: len(tokens) for index, tokens in outputs.items()} == dict.fromkeys(range(4), 20)
    assert len({tuple(tokens) for tokens in outputs.values()}) == 4


def test_what_does_not_fit_at_once_waits_and_is_what_it_would_be(model: Model) -> None:
    backend = backend_of(model, sequences=2)
    prompts = tuple((i, i + 1, i + 2) for i in range(12))
    outputs = tokens_of(backend.submit(greedy(*prompts, max_tokens=CONTEXT - 3)))  # each fills half of the cache

    assert outputs == {i: generated(model, prompt, CONTEXT - 3) for i, prompt in enumerate(prompts)}
    wait_until(lambda: backend.load() == Load(0, 0, places=2, cache_use=0))
    backend.close()


def test_a_cancelled_choice_frees_its_pages_and_the_others_go_on(model: Model, backend: ContinuousBackend) -> None:
    generation = backend.submit(greedy((1,), (2,), max_tokens=CONTEXT - 1))
    events = []
    for event in generation:
        events.append(event)
        if len(events) == 4:
            generation.cancel(0)

    outputs = tokens_of(events)
    assert len(outputs[0]) < CONTEXT - 1
    assert outputs[1] == generated(model, (2,), CONTEXT - 1)
    wait_until(lambda: backend.load() == Load(0, 0, places=4, cache_use=0))


def test_when_pages_ran_out_and_everybody_gave_up_the_next_request_is_answered(model: Model) -> None:
    """transformers admits nobody after it has taken somebody's pages, until one finishes: but nobody is left to."""
    backend = backend_of(model, sequences=2)
    crowd = backend.submit(greedy(*[(i,) for i in range(100)], max_tokens=CONTEXT - 1))
    manager = backend._manager
    assert manager is not None
    wait_until(lambda: manager.batch_processor and manager.batch_processor.scheduler.block_new_requests)
    crowd.cancel()

    request = greedy((1, 2), max_tokens=5, deadline=time.time() + PATIENCE)
    assert tokens_of(backend.submit(request)) == {0: generated(model, (1, 2), 5)}
    backend.close()


def test_the_deadline_ends_a_choice_with_what_it_has(model: Model, backend: ContinuousBackend) -> None:
    request = greedy(*[(i,) for i in range(12)], max_tokens=CONTEXT - 1, deadline=time.time() + 0.05)
    events = list(backend.submit(request))

    for index, tokens in tokens_of(events).items():
        assert tokens == generated(model, (index,), CONTEXT - 1)[: len(tokens)]
    reasons = {event.choice: event.reason for event in events if isinstance(event, ChoiceFinished)}
    assert reasons.keys() == set(range(12))
    assert "deadline" in reasons.values()
    wait_until(lambda: backend.load() == Load(0, 0, places=4, cache_use=0))


def test_after_the_deadline_nothing_is_computed(backend: ContinuousBackend) -> None:
    generation = backend.submit(greedy((1,), max_tokens=5, deadline=time.time() - 1))
    assert list(generation) == [ChoiceFinished(0, "deadline")]
    assert generation.admitted is None


def test_it_says_how_busy_it_is(backend: ContinuousBackend) -> None:
    assert backend.load() == Load(0, 0, places=4, cache_use=0)
    generation = backend.submit(greedy(*[(i,) * 20 for i in range(40)], max_tokens=CONTEXT - 20))
    next(iter(generation))
    load = backend.load()
    generation.cancel()
    wait_until(lambda: backend.load() == Load(0, 0, places=4, cache_use=0))

    # Two pages of sixteen for each at first, and all of them in the end: but not more than there are.
    assert 4 <= load.running <= 8
    assert load.running + load.waiting == 40
    assert 0.7 < load.cache_use <= 1


def test_it_is_known_when_a_request_was_admitted(backend: ContinuousBackend) -> None:
    generation = backend.submit(greedy((1,), max_tokens=2))
    list(generation)
    assert generation.admitted is not None
    assert generation.submitted <= generation.admitted <= time.monotonic()


def cache_of(backend: ContinuousBackend) -> weakref.ref[PagedAttentionCache]:
    manager = backend._manager
    assert manager is not None
    assert manager.batch_processor is not None
    return weakref.ref(manager.batch_processor.cache)


def test_an_error_of_the_managers_thread_ends_every_request_and_the_next_one_is_answered(model: Model) -> None:
    backend = backend_of(model)
    broken = [backend.submit(greedy((i,), max_tokens=CONTEXT - 1)) for i in range(6)]
    next(iter(broken[0]))
    cache, head = cache_of(backend), model.lm_head.weight.data
    gc.disable()
    try:
        model.lm_head.weight.data = torch.full_like(head, torch.nan)  # no token can be drawn from what it computes
        broken.append(backend.submit(greedy((7,), max_tokens=5)))
        for generation in broken:
            with pytest.raises(EngineError, match=r"^Continuous batching has failed; the service's log says why\.$"):
                list(generation)
        backend.check()
        assert cache() is None  # on a GPU there may be no room for two
    finally:
        gc.enable()
        model.lm_head.weight.data = head
    assert tokens_of(backend.submit(greedy((1, 2), max_tokens=5))) == {0: generated(model, (1, 2), 5)}
    backend.close()


def test_after_some_failures_in_a_row_nobody_expects_an_answer(model: Model) -> None:
    backend = backend_of(model)
    try:
        head, model.lm_head.weight.data = model.lm_head.weight.data, torch.full_like(model.lm_head.weight, torch.nan)
        for _ in range(3):
            backend.check()
            with pytest.raises(EngineError):
                list(backend.submit(greedy((7,), max_tokens=5)))
        with pytest.raises(EngineUnavailableError, match="3 times in a row"):
            backend.check()
    finally:
        model.lm_head.weight.data = head
    tokens_of(backend.submit(greedy((7,), max_tokens=5)))
    backend.check()
    backend.close()


@pytest.mark.parametrize("end", [ContinuousBackend.rest, ContinuousBackend.retire], ids=["rest", "retire"])
def test_who_rests_or_is_retired_finishes_its_work_holds_no_thread_and_answers_the_next_request(
    model: Model, end: Callable[[ContinuousBackend], None]
) -> None:
    before = len(threading.enumerate())
    backend = backend_of(model)
    first = backend.submit(greedy((1, 2), max_tokens=5))
    cache = cache_of(backend)
    end(backend)
    assert cache() is None
    wait_until(lambda: len(threading.enumerate()) <= before)
    assert tokens_of(first) == {0: generated(model, (1, 2), 5)}
    assert tokens_of(backend.submit(greedy((3,), max_tokens=2))) == {0: generated(model, (3,), 2)}
    end(backend)
    wait_until(lambda: len(threading.enumerate()) <= before)


def test_closing_ends_what_is_under_way_with_an_error(model: Model) -> None:
    backend = backend_of(model)
    generation = backend.submit(greedy((1,), max_tokens=CONTEXT - 1))
    next(iter(generation))
    backend.close()

    with pytest.raises(RuntimeError, match="closed"):
        list(generation)
    with pytest.raises(RuntimeError, match="closed"):
        backend.submit(greedy((1,)))


def test_the_cache_must_hold_the_longest_sequence(model: Model) -> None:
    assert blocks_of(model, CONTEXT, SEQUENCE_BYTES + UNUSED_BYTES) == CONTEXT // PAGE_TOKENS
    with pytest.raises(UnsupportedModelError, match=r"KV_CACHE_MB must leave .* takes 49,152 bytes; given: 49,151"):
        blocks_of(model, CONTEXT, SEQUENCE_BYTES + UNUSED_BYTES - 1)


def test_memory_must_hold_the_cache(model: Model) -> None:
    with pytest.raises(UnsupportedModelError, match=r"KV_CACHE_MB: there is no memory .* more than available memory"):
        new_manager(model, blocks=10**9)


def test_what_it_cannot_do_it_refuses(backend: ContinuousBackend) -> None:
    with pytest.raises(ValueError, match="tokens and nothing beside them"):
        backend.submit(greedy((1,), logprobs=0))
