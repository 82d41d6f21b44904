"""Chooses the next token from the logits, and says how probable it was.

The order of operations is that of transformers' logits processors, so that the same parameters mean the same there
and here: logit bias, repetition penalty, presence and frequency penalties, temperature, top-k, top-p, min-p. All three
filters come down to one threshold, because each keeps the best tokens; tokens exactly as good as the last one kept are
kept too.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from handler.errors import EngineError
from handler.inference.philox import philox
from handler.inference.protocol import FloatArray, SamplingParams, TokenLogprobs

TINY: Final = float(np.finfo(np.float32).tiny)  # the least temperature that 32 bits hold to full precision
BLOCK: Final = 256  # weights added up at once; about the root of the vocabulary's size
BUCKETS: Final = 4096  # of weights, for 32 powers of 2
PIECE: Final = 2**13  # tokens counted at once: their 64-bit copies are small enough for memory that is at hand
MAXIMA_OF: Final = 32  # scores of which only the best is looked at, to begin with


NOT_FINITE: Final = "The model's logits are not all finite numbers, so nothing can be chosen from them."


class History:
    """What the penalties look at: the tokens a choice has seen and how often it has produced each."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self.seen = set(prompt)
        self.produced: Counter[int] = Counter()

    def add(self, token: int) -> None:
        """Note a token of the output."""
        self.seen.add(token)
        self.produced[token] += 1


def choose(logits: FloatArray, params: SamplingParams, history: History, *, sample: int, step: int) -> int:
    """The next token.

    Args:
        logits: (V,), untouched.
        params: how to choose.
        history: prompt and output so far; looked at only if there is a penalty.
        sample: which of a prompt's samples this is, from 0.
        step: how many tokens it has produced so far.

    Raises:
        EngineError: a logit is infinite or not a number.
    """
    scores = penalized(logits, params, history)
    if params.temperature == 0:
        best = int(scores.argmax())  # the first of equals
        _check_finite(scores, scores[best])
        return best
    _check_finite(scores, scores.max())
    tokens, weights = candidates(scores, params)
    return int(tokens[_draw(weights, uniform(params.seed, sample, step))])


def penalized(logits: FloatArray, params: SamplingParams, history: History) -> FloatArray:
    """The logits (V,) after bias and penalties; the very same array where there are none."""
    repetition, presence, frequency = params.repetition_penalty, params.presence_penalty, params.frequency_penalty
    counted = bool(history.produced) and (presence != 0 or frequency != 0)
    if not params.logit_bias and repetition == 1 and not counted:
        return logits
    scores = logits.copy()
    for token, bias in params.logit_bias.items():
        scores[token] += bias
    if repetition != 1:
        seen = np.fromiter(history.seen, np.intp)
        scores[seen] = np.where(scores[seen] < 0, scores[seen] * repetition, scores[seen] / repetition)
    if counted:
        produced = np.fromiter(history.produced.keys(), np.intp)
        counts = np.fromiter(history.produced.values(), np.float32)
        scores[produced] -= presence + frequency * counts
    return scores


def candidates(scores: FloatArray, params: SamplingParams) -> tuple[Sequence[int] | npt.NDArray[np.intp], FloatArray]:
    """What temperature and filters leave: tokens by ascending id, and each one's weight relative to the best one's.

    Of all those that temperature makes too small to count, and that top-p and min-p drop, the weight is 0.

    Args:
        scores: finite logits after bias and penalties (V,).
        params: with a temperature above 0.
    """
    tokens: Sequence[int] | npt.NDArray[np.intp] = range(len(scores))
    if 0 < params.top_k < len(scores):
        tokens = np.flatnonzero(scores >= _kth_best(scores, params.top_k))
        scores = scores[tokens]
    weights = _weights(scores, params.temperature)
    if params.top_p < 1:
        weights *= scores >= _nucleus(scores, weights, params.top_p)
    if params.min_p > 0:
        weights *= weights >= params.min_p
    return tokens, weights


def _kth_best(scores: FloatArray, k: int) -> np.float32:
    """The k-th best of at least k scores, which a partition of them all takes five times as long to find."""
    rows = max(1, min(MAXIMA_OF, len(scores) // (4 * k)))
    maxima = scores[: len(scores) // rows * rows].reshape(rows, -1).max(axis=0)  # (at least k,)
    # k columns have a score this good, so the k-th best is no worse; little more than k scores are as good.
    bound = np.partition(maxima, -k)[-k]
    return np.float32(np.partition(scores[scores >= bound], -k)[-k])


def _nucleus(scores: FloatArray, weights: FloatArray, top_p: float) -> np.float32:
    """The lowest score in the smallest set of best tokens whose probabilities reach top_p (Holtzman et al. 2019)."""
    # All the tokens less probable than this share of the rest cannot make up the rest, even together: they are none of
    # the set, and most of the vocabulary, unless the model has no idea.
    total = weights.sum(dtype=np.float64)
    likely = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))
    if len(likely) < len(weights) // 3:
        scores, weights = scores[likely], weights[likely]
    # Sorted into buckets, only the bucket in which top_p is reached needs sorting inside. Weights lie between 0 and 1,
    # where the bits of floats are ordered as the floats are; the upper 16 make 128 buckets of each power of 2.
    buckets = np.minimum((np.float32(1).view(np.int32) - weights.view(np.int32)) >> 16, BUCKETS - 1)
    sums = np.zeros(BUCKETS)
    for start in range(0, len(scores), PIECE):
        piece = slice(start, start + PIECE)
        sums += np.bincount(buckets[piece], weights[piece], BUCKETS)
    sums = sums.cumsum()
    wanted = min(top_p * total, sums[-1])  # what rounding, or tokens that were left out, may keep from being reached
    reached = int(np.searchsorted(sums, wanted))
    better = sums[reached - 1] if reached > 0 else 0.0
    inside = np.flatnonzero(buckets == reached)
    best_first = inside[np.argsort(-scores[inside])]
    place = np.searchsorted(weights[best_first].cumsum(dtype=np.float64), wanted - better)
    return np.float32(scores[best_first[min(place, len(best_first) - 1)]])  # beyond the last one only by rounding


def _weights(scores: FloatArray, temperature: float = 1.0) -> FloatArray:
    """How probable each token is beside the best one; the likely ones, whose exponents are small, to seven digits."""
    with np.errstate(over="ignore"):  # e to the minus infinity is 0, as it should be
        weights: FloatArray = scores - scores.max()
        if temperature != 1:
            weights /= np.float32(max(temperature, TINY))
    return np.exp(weights, out=weights)


def _draw(weights: FloatArray, number: float) -> int:
    """The index that a number in [0, 1) falls on if each index has a share of that range as large as its weight.

    Inverse transform sampling in two steps, since adding up all weights one after the other takes longer than
    computing them: first a block of weights by the blocks' sums, then an index inside.
    """
    blocks = len(weights) // BLOCK
    sums = np.empty(blocks + 1, np.float32)  # the last block is shorter, and may be empty
    # einsum adds up short rows twice as fast as their sum() does.
    np.einsum("ij->i", weights[: blocks * BLOCK].reshape(blocks, BLOCK), out=sums[:blocks])
    sums[blocks] = weights[blocks * BLOCK :].sum()
    ends = sums.cumsum(dtype=np.float64)
    block, point = _locate(ends, number * float(ends[-1]))
    start = block * BLOCK
    index, _ = _locate(weights[start : start + BLOCK].cumsum(dtype=np.float64), point)
    return start + index


def _locate(sums: npt.NDArray[np.float64], point: float) -> tuple[int, float]:
    """The first cumulative sum above a point, and how far the point lies above the sum before it."""
    # Below the total even when rounding lifts it there, so that what is found has a positive weight.
    point = min(point, math.nextafter(sums[-1], 0))
    index = int(sums.searchsorted(point, side="right"))
    return index, point - float(sums[index - 1]) if index > 0 else point


def uniform(seed: int, sample: int, step: int) -> float:
    """A random number in [0, 1) that depends on its arguments alone; 53 of its bits are random."""
    return (philox((seed % 2**64, sample), (1, step, 0, 0)) >> 11) * 2.0**-53


def logprobs_of(logits: FloatArray, token: int, top: int) -> TokenLogprobs:
    """The log-probability of a token, and of the `top` most probable ones, under the logits (V,) as they are.

    Raises:
        EngineError: a logit is infinite or not a number.
    """
    _check_finite(logits, logits.max())
    weights = _weights(logits)
    total = weights.sum(dtype=np.float64)
    normalizer = float(logits.max()) + math.log(total)
    ids: npt.NDArray[np.intp] = np.empty(0, np.intp)
    if top > 0:
        top = min(top, len(logits))
        ids = np.flatnonzero(logits >= _kth_best(logits, top))
        ids = ids[np.argsort(-logits[ids], kind="stable")][:top]  # the lowest ids of equals
    return TokenLogprobs(
        token,
        float(logits[token]) - normalizer,
        tuple((int(id_), float(logits[id_]) - normalizer) for id_ in ids),
        # The mean of -log p, which rounding may take below what it can be.
        max(0.0, normalizer - float(weights @ logits / total)),
    )


def _check_finite(logits: FloatArray, best: np.float32) -> None:
    # Both the best and the worst are not a number as soon as any of them is not.
    if not (math.isfinite(best) and math.isfinite(logits.min())):
        raise EngineError(NOT_FINITE)
