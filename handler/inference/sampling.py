"""Chooses the next token from the logits, and says how probable it was.

The order of operations is that of transformers' logits processors, so that the same parameters mean the same there
and here: logit bias, repetition penalty, presence and frequency penalties, temperature, top-k, top-p, min-p. All three
filters come down to one threshold, because each keeps the best tokens; tokens exactly as good as the last one kept are
kept too.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from handler.errors import EngineError
from handler.inference.protocol import FloatArray, SamplingParams, TokenLogprobs

WORD: Final = 2**64  # keys and counters of the generator are whole numbers of several words


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
    _check_finite(scores)
    if params.temperature == 0:
        return int(scores.argmax())  # the first of equals
    tokens, weights = candidates(scores, params)
    # Inverse transform sampling. The point lies below the total even when rounding would lift it there, so the
    # first sum above it always belongs to a token of positive weight.
    sums = weights.cumsum()
    point = min(uniform(params.seed, sample, step) * sums[-1], np.nextafter(sums[-1], 0))
    return int(tokens[np.searchsorted(sums, point, side="right")])


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


def candidates(scores: FloatArray, params: SamplingParams) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The tokens that temperature and filters leave, by ascending id, each with its weight relative to the best one.

    Args:
        scores: finite logits after bias and penalties (V,).
        params: with a temperature above 0.
    """
    best = scores.max()
    threshold = np.float32(-np.inf)
    if 0 < params.top_k < len(scores):
        threshold = np.float32(np.partition(scores, -params.top_k)[-params.top_k])
    if params.top_p < 1:
        threshold = _nucleus(scores[scores >= threshold], params)
    tokens = np.flatnonzero(scores >= threshold)
    weights = _weights(scores[tokens], best, params.temperature)
    if params.min_p > 0:
        likely = weights >= params.min_p
        tokens, weights = tokens[likely], weights[likely]
    return tokens, weights


def _nucleus(scores: FloatArray, params: SamplingParams) -> np.float32:
    """The lowest score in the smallest set of best tokens whose probabilities reach top_p (Holtzman et al. 2019)."""
    weights = _weights(scores, scores.max(), params.temperature)
    # A token less probable than (1 - top_p) / V is never in that set: all such tokens together weigh less than
    # 1 - top_p. Leaving them out first spares sorting the tens of thousands that do not matter.
    total = weights.sum()
    relevant = weights >= (1 - params.top_p) * total / len(weights)
    order = np.sort(scores[relevant])[::-1]
    sums = _weights(order, order[0], params.temperature).cumsum()
    return np.float32(order[min(np.searchsorted(sums, params.top_p * total), len(order) - 1)])


def _weights(scores: FloatArray, best: np.float32, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """How probable each token is beside the best one."""
    exponents = (scores.astype(np.float64) - best) / temperature
    # Rounding the exponent to 32 bits makes exp ten times as fast and leaves the likely tokens, whose exponents are
    # small, exact to seven digits. Below -104 the result is 0 in any case.
    return np.exp(np.maximum(exponents, -200).astype(np.float32)).astype(np.float64)


def uniform(seed: int, sample: int, step: int) -> float:
    """A random number in [0, 1) that depends on its arguments alone.

    Counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), so that a sample comes out the
    same whatever is generated beside it and in whatever order.
    """
    generator = np.random.Philox(key=seed % WORD + sample * WORD, counter=step * WORD)
    return int(generator.random_raw() >> 11) * 2.0**-53


def logprobs_of(logits: FloatArray, token: int, top: int) -> TokenLogprobs:
    """The log-probability of a token, and of the `top` most probable ones, under the logits (V,) as they are.

    Raises:
        EngineError: a logit is infinite or not a number.
    """
    _check_finite(logits)
    best = logits.max()
    normalizer = float(best) + float(np.log(_weights(logits, best).sum()))
    ids: npt.NDArray[np.intp] = np.empty(0, np.intp)
    if top > 0:
        top = min(top, len(logits))
        ids = np.flatnonzero(logits >= np.partition(logits, -top)[-top])
        ids = ids[np.argsort(-logits[ids], kind="stable")][:top]  # the lowest ids of equals
    return TokenLogprobs(
        token,
        float(logits[token]) - normalizer,
        tuple((int(id_), float(logits[id_]) - normalizer) for id_ in ids),
    )


def _check_finite(logits: FloatArray) -> None:
    if not np.isfinite(logits).all():
        raise EngineError("The model's logits are not all finite numbers, so nothing can be chosen from them.")
