"""Sampling, held against transformers' logits processors and against the distributions it must follow."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from handler.errors import EngineError
from handler.inference.protocol import FloatArray, SamplingParams
from handler.inference.sampling import History, candidates, choose, logprobs_of, penalized, uniform
from tests.models import random_logits

VOCABULARY = 2000  # that of random logits
EMPTY = History([])

# Chi-square values that a right sampler exceeds once in 10,000 seeds; the seeds here are fixed.
CHI_SQUARE = {4: 23.5, 9: 33.7}


def ours(logits: FloatArray, params: SamplingParams, prompt: list[int]) -> npt.NDArray[np.float64]:
    """The probability of every token, as this service samples."""
    tokens, weights = candidates(penalized(logits, params, History(prompt)), params)
    probabilities = np.zeros(len(logits))
    probabilities[tokens] = weights / weights.sum()
    return probabilities


def theirs(logits: FloatArray, params: SamplingParams, prompt: list[int]) -> npt.NDArray[np.float64]:
    """The same from transformers, its processors in the order in which `generate` applies them."""
    processors: list[Any] = []
    if params.logit_bias:
        bias: list[Any] = [[[token], value] for token, value in params.logit_bias.items()]
        processors.append(SequenceBiasLogitsProcessor(sequence_bias=bias))
    if params.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    processors.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        processors.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        processors.append(MinPLogitsWarper(params.min_p))
    scores = LogitsProcessorList(processors)(torch.LongTensor([prompt]), torch.FloatTensor(logits[None]))
    probabilities: npt.NDArray[np.float64] = torch.softmax(scores[0].double(), -1).numpy()
    return probabilities


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.7),
        SamplingParams(temperature=2.0),
        SamplingParams(top_k=40),
        SamplingParams(top_k=1),
        SamplingParams(top_k=VOCABULARY + 1),
        SamplingParams(top_p=0.9),
        SamplingParams(top_p=0.1, temperature=1.3),
        SamplingParams(top_p=0.9999),
        SamplingParams(min_p=0.05),
        SamplingParams(min_p=1.0),
        SamplingParams(repetition_penalty=1.3),
        SamplingParams(repetition_penalty=0.8),
        SamplingParams(logit_bias={3: 5.0, 10: -50.0}, repetition_penalty=1.2),
        SamplingParams(temperature=0.8, top_k=50, top_p=0.95, min_p=0.02),
        SamplingParams(temperature=1.7, top_k=100, top_p=0.5, repetition_penalty=1.1, logit_bias={7: 4.0}),
        SamplingParams(temperature=0.6, top_p=0.8, min_p=0.3),
    ],
    ids=str,
)
def test_distribution_is_that_of_transformers(params: SamplingParams, seed: int) -> None:
    """The same tokens are left, with probabilities within 1e-6: neither computes all of it in 64 bits."""
    logits, prompt = random_logits(seed), [3, 7, 7, 500, 1999]
    mine, peer = ours(logits, params, prompt), theirs(logits, params, prompt)
    assert np.flatnonzero(mine).tolist() == np.flatnonzero(peer).tolist()
    np.testing.assert_allclose(mine, peer, rtol=0, atol=1e-6)


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=30),
    st.floats(0.0, 1.0),
    st.integers(0, 31),
    st.sampled_from([1e-6, 0.5, 1.0, 2.0]),
)
@example([0] * 30, 1 - 2**-53, 0, 1.0)
def test_filters_keep_the_best_and_all_equals(scores: list[int], top_p: float, top_k: int, temperature: float) -> None:
    """Whole numbers tie often. What is kept is at least as good as what is not, and it reaches top_p; no less does."""
    logits = np.array(scores, np.float32)
    tokens, weights = candidates(logits, SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k))
    tokens = np.asarray(tokens)[weights > 0]
    left_out = np.delete(logits, tokens)
    assert left_out.max(initial=-np.inf) < logits[tokens].min()
    assert weights.max() == 1

    best_first = np.sort(logits)[::-1].astype(np.float64)
    allowed = best_first[best_first >= best_first[min(top_k, len(scores)) - 1]] if top_k else best_first
    probabilities = np.exp((allowed - allowed[0]) / temperature)
    probabilities /= probabilities.sum()
    worst = logits[tokens].min()
    # Within rounding: sums of the same numbers in another order.
    assert probabilities[allowed >= worst].sum() >= top_p - 1e-12
    assert len(set(logits[tokens])) == 1 or probabilities[allowed > worst].sum() < top_p + 1e-12


@pytest.mark.parametrize("spread", [0.1, 3, 10])
def test_a_whole_vocabulary_is_filtered_and_drawn_from_as_if_it_were_sorted(spread: float) -> None:
    logits = random_logits(0, 50_257, spread)
    weights = np.exp(logits.astype(np.float64) - logits.max())
    best_first = np.sort(logits)[::-1]
    reached = np.searchsorted(np.cumsum(np.sort(weights)[::-1]) / weights.sum(), 0.9)
    for params, worst in [
        (SamplingParams(), best_first[-1]),
        (SamplingParams(top_k=50), best_first[49]),
        (SamplingParams(top_k=15_000), best_first[14_999]),
        (SamplingParams(top_p=0.9), best_first[reached]),
    ]:
        allowed = np.flatnonzero(logits >= worst)
        sums = weights[allowed].cumsum()
        expected = [allowed[np.searchsorted(sums, uniform(0, 0, step) * sums[-1], "right")] for step in range(100)]
        assert [choose(logits, params, EMPTY, sample=0, step=step) for step in range(100)] == expected
        if params.top_k or params.top_p < 1:
            assert np.flatnonzero(ours(logits, params, [])).tolist() == allowed.tolist()


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (SamplingParams(seed=1), range(10)),
        (SamplingParams(seed=2, temperature=0.5), range(10)),
        (SamplingParams(seed=3, top_k=5), range(5)),
    ],
    ids=str,
)
def test_samples_follow_the_distribution(params: SamplingParams, kept: range) -> None:
    logits = np.linspace(2, 0, 10, dtype=np.float32)
    probabilities = ours(logits, params, [])
    assert np.flatnonzero(probabilities).tolist() == list(kept)

    drawn = Counter(choose(logits, params, EMPTY, sample=i % 4, step=i // 4) for i in range(8000))

    expected = probabilities[: len(kept)] * 8000
    observed = np.array([drawn[token] for token in kept])
    assert observed.sum() == 8000
    assert ((observed - expected) ** 2 / expected).sum() < CHI_SQUARE[len(kept) - 1]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_random_numbers_are_those_of_numpys_philox(seed: int, sample: int, step: int) -> None:
    generator = np.random.Philox(key=seed + (sample << 64), counter=step << 64)
    assert uniform(seed, sample, step) == (int(generator.random_raw()) >> 11) * 2.0**-53


@pytest.mark.parametrize("vary", ["seed", "sample", "step"])
def test_random_numbers_are_uniform_along_every_key(vary: str) -> None:
    numbers = [uniform(**({"seed": 5, "sample": 3, "step": 11} | {vary: value})) for value in range(5000)]
    observed, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert ((observed - 500) ** 2 / 500).sum() < CHI_SQUARE[9]
    # Neighbours are independent: their correlation has a standard deviation of 1 / sqrt(5000) = 0.014.
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.06


def test_random_numbers_never_change() -> None:
    """A seed promises the same text tomorrow, so these are written down."""
    assert [uniform(0, 0, 0), uniform(1, 0, 0), uniform(0, 1, 0), uniform(0, 0, 1), uniform(2**64 - 1, 0, 0)] == [
        0.011546754286331562,
        0.3035680343067586,
        0.8133540609793564,
        0.21185954403345741,
        0.23494158814525556,
    ]
    assert uniform(2**64 - 1, 0, 0) == uniform(-1, 0, 0)


@given(st.integers(0, 2**64 - 1), st.integers(0, 100), st.integers(0, 100))
def test_random_numbers_depend_on_their_keys_alone(seed: int, sample: int, step: int) -> None:
    number = uniform(seed, sample, step)
    uniform(seed + 1, sample, step)
    assert number == uniform(seed, sample, step)
    assert 0 <= number < 1


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-6])
def test_no_or_little_temperature_takes_the_best(temperature: float) -> None:
    logits = random_logits(0)
    params = SamplingParams(temperature=temperature)
    assert {choose(logits, replace(params, seed=seed), EMPTY, sample=0, step=0) for seed in range(20)} == {
        int(logits.argmax())
    }


def test_greedy_takes_the_first_of_equals() -> None:
    logits = np.array([1, 3, 3, 2], np.float32)
    assert choose(logits, SamplingParams(temperature=0), EMPTY, sample=0, step=0) == 1


def test_high_temperature_and_far_apart_logits_stay_finite() -> None:
    logits = np.array([-3e38, 0, 3e38], np.float32)
    assert choose(logits, SamplingParams(temperature=2), EMPTY, sample=0, step=0) == 2


def test_presence_counts_once_and_frequency_every_time() -> None:
    logits = np.array([4, -4, 4, 4], np.float32)
    history = History([0, 1])
    for token in (2, 3, 3):
        history.add(token)
    presence = penalized(logits, SamplingParams(presence_penalty=0.5), history)
    frequency = penalized(logits, SamplingParams(frequency_penalty=0.5), history)
    repetition = penalized(logits, SamplingParams(repetition_penalty=2), history)
    assert presence.tolist() == [4, -4, 3.5, 3.5]
    assert frequency.tolist() == [4, -4, 3.5, 3]
    assert repetition.tolist() == [2, -8, 2, 2]
    assert logits.tolist() == [4, -4, 4, 4]


def test_penalties_come_in_order() -> None:
    """Bias first, then repetition, then presence and frequency: (-1 + 3) / 2 - 0.25 - 2 * 0.125."""
    params = SamplingParams(logit_bias={0: 3.0}, repetition_penalty=2, presence_penalty=0.25, frequency_penalty=0.125)
    history = History([])
    history.add(0)
    history.add(0)
    assert penalized(np.array([-1, 0], np.float32), params, history).tolist() == [0.5, 0]


def test_without_penalties_nothing_is_copied() -> None:
    logits = random_logits(0)
    history = History([1])
    history.add(2)
    assert penalized(logits, SamplingParams(temperature=0.5, top_k=3), history) is logits


def test_bias_can_force_and_forbid() -> None:
    logits = random_logits(0, spread=1)
    forced = SamplingParams(logit_bias={123: 100.0})
    forbidden = SamplingParams(logit_bias={int(logits.argmax()): -100.0}, temperature=0)
    assert {choose(logits, replace(forced, seed=seed), EMPTY, sample=0, step=0) for seed in range(50)} == {123}
    assert choose(logits, forbidden, EMPTY, sample=0, step=0) == int(np.argsort(logits)[-2])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error(bad: float, temperature: float) -> None:
    logits = random_logits(0)
    logits[5] = bad
    with pytest.raises(EngineError, match="not all finite"):
        choose(logits, SamplingParams(temperature=temperature), EMPTY, sample=0, step=0)
    with pytest.raises(EngineError, match="not all finite"):
        logprobs_of(logits, 0, 0)


@pytest.mark.parametrize("top_p", [1 - 2**-53, 1 - 2**-24])
def test_a_share_that_rounding_never_reaches_keeps_every_token(top_p: float) -> None:
    scores = np.zeros(300, np.float32)
    scores[11] = 21.75
    _, weights = candidates(scores, SamplingParams(top_p=top_p))
    assert (weights > 0).all()
