"""Continuous batching and our scheduler over one model, of several architectures: who takes which request."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from handler.errors import UnsupportedModelError
from handler.inference.paging import ATTENTION
from handler.inference.protocol import (
    ChoiceFinished,
    Generation,
    GenerationRequest,
    Load,
    PromptScored,
    SamplingParams,
    TokenGenerated,
)
from handler.inference.routing import Routing, needs_tokens_alone
from handler.inference.twin import continuous_backend, twin_of
from tests.causal_models import CONFIGS, random_model, tensors_of
from tests.transformers_peer import Model

PROMPTS = ((5,), (17, 0, 255, 3, 3, 90, 41), (100, 101), tuple(range(20, 52)))
GREEDY = GenerationRequest(PROMPTS, (SamplingParams(temperature=0),) * 4, max_tokens=20)
WARM = replace(GREEDY, sampling=(SamplingParams(),) * 4, reproducible=False)


def backend_of(model: Model, kind: str) -> Routing:
    return continuous_backend(CONFIGS[kind], tensors_of(model), device="cpu", kv_cache_bytes=10**6, threads=1)


@pytest.fixture(scope="module", params=["gpt2", "llama", "mistral", "qwen3"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Routing, Model]]:
    """A backend, and transformers' model with the same weights; the last two look through windows of 7 tokens."""
    model = random_model(CONFIGS[request.param])
    backend = backend_of(model, request.param)
    yield backend, model
    backend.close()


def tokens_of(generation: Generation) -> list[list[int]]:
    tokens = defaultdict(list)
    for event in generation:
        if isinstance(event, TokenGenerated):
            tokens[event.choice].append(event.token)
    return [tokens[index] for index in range(len(tokens))]


def generated(model: Model, prompt: tuple[int, ...], count: int) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count)
    return list(output[0, len(prompt) :].tolist())


def test_both_write_what_transformers_generates(pair: tuple[Routing, Model]) -> None:
    backend, model = pair
    expected = [generated(model, prompt, 20) for prompt in PROMPTS]
    fast, exact = backend.submit(GREEDY), backend.submit(replace(GREEDY, logprobs=0))

    assert (fast.engine, exact.engine) == (backend.name, backend.scorer)
    assert tokens_of(fast) == expected
    assert tokens_of(exact) == expected


@pytest.mark.parametrize(
    "request_",
    [
        replace(WARM, reproducible=True),
        replace(WARM, logprobs=0),
        replace(WARM, prompt_logprobs=True),
        replace(WARM, max_tokens=0),
        *(
            replace(WARM, sampling=(*WARM.sampling[:3], sampling))
            for sampling in (
                SamplingParams(min_p=0.1),
                SamplingParams(repetition_penalty=1.1),
                SamplingParams(presence_penalty=0.1),
                SamplingParams(frequency_penalty=0.1),
                SamplingParams(logit_bias={3: 1.0}),
            )
        ),
    ],
)
def test_what_needs_more_than_tokens(request_: GenerationRequest) -> None:
    assert not needs_tokens_alone(request_)


@pytest.mark.parametrize(
    "request_",
    [
        GREEDY,
        WARM,
        replace(WARM, n=3, stop_tokens=frozenset({1}), deadline=1e12),
        replace(WARM, sampling=(SamplingParams(0.7, 40, 0.9, seed=7),) * 4),
    ],
)
def test_what_does_not(request_: GenerationRequest) -> None:
    assert needs_tokens_alone(request_)


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model(CONFIGS["gpt2"])


@pytest.fixture(scope="module")
def backend(model: Model) -> Iterator[Routing]:
    backend = backend_of(model, "gpt2")
    yield backend
    backend.close()


def test_a_seed_gives_the_same_text_and_none_another(backend: Routing) -> None:
    seeded = replace(WARM, sampling=(SamplingParams(seed=1),) * 4, reproducible=True)
    assert tokens_of(backend.submit(seeded)) == tokens_of(backend.submit(seeded))
    assert tokens_of(backend.submit(WARM)) != tokens_of(backend.submit(WARM))


def test_a_prompt_is_scored(backend: Routing) -> None:
    scored, finished = backend.submit(
        GenerationRequest(((1, 2),), (SamplingParams(),), max_tokens=0, prompt_logprobs=True)
    )
    assert isinstance(scored, PromptScored)
    assert finished == ChoiceFinished(0, "length")


def test_it_is_as_busy_as_both(backend: Routing) -> None:
    # Half a megabyte holds 15 sequences of 64 tokens of 512 bytes each, and 14 where two pages are nobody's.
    list(backend.submit(GREEDY))
    backend.rest()
    assert backend.load() == Load(0, 0, places=15 + 14, cache_use=0, reserved=15)
    assert (backend.context_length, backend.vocabulary_size) == (64, 300)
    backend.check()
    backend.retire()


def test_a_twin_has_another_attention_and_the_same_weights(model: Model) -> None:
    twin = twin_of(model, ATTENTION)
    assert [tensor.data_ptr() for tensor in twin.state_dict().values()] == [
        tensor.data_ptr() for tensor in model.state_dict().values()
    ]
    assert (model.config._attn_implementation, twin.config._attn_implementation) == ("eager", ATTENTION)


def test_half_of_the_cache_must_hold_a_sequence(model: Model) -> None:
    with pytest.raises(UnsupportedModelError, match="KV_CACHE_MB must leave continuous batching room"):
        continuous_backend(CONFIGS["gpt2"], tensors_of(model), device="cpu", kv_cache_bytes=2 * 64 * 512)
