"""Whether one model predicts better than another, or was only lucky with the texts: a paired bootstrap.

Both models have read the same documents. Documents are drawn anew, with replacement, thousands of times, always the
same ones for both, and each time the difference is taken: where it lies in 95 of 100 draws is the interval (Efron &
Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3; Koehn 2004, "Statistical Significance Tests for
Machine Translation Evaluation"). The measure is bits per byte, which does not depend on the tokenizer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from handler.errors import CorruptModelError, InvalidRequestError
from lifecycle.evaluating.evaluate import read_evaluation

DRAWS: Final = 10_000
_SEED: Final = 0
_TOGETHER: Final = 256  # draws that are made at once
FEW: Final = 20  # documents below which an interval is not to be trusted

Row = tuple[float, float, float]  # of a document: nats of the first model, nats of the second, bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """What the second model has over the first on the documents that both have read; below zero it is better.

    Attributes:
        documents: how many those are.
        before: bits per byte of the first.
        after: bits per byte of the second.
        low: where the 95 % interval of the difference begins.
        high: where it ends.
        better: the share of draws in which the second was better.
    """

    documents: int
    before: float
    after: float
    low: float
    high: float
    better: float

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves no doubt which of them is better."""
        return self.low > 0 or self.high < 0


def compare_evaluations(first: Path, second: Path) -> dict[str, Difference]:
    """Compare two checkpoint folders by their evaluations, text by text.

    Raises:
        InvalidRequestError: one has not been evaluated, or they have not read the same.
        CorruptModelError: a folder or an evaluation is not sound.
    """
    one, other = (read_evaluation(folder)["documents"] for folder in (first, second))
    differences = {}
    for name in [name for name in one if name in other]:
        try:
            rows = _pairs(one[name], other[name])
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptModelError(f"{first} and {second}: the documents of {name} are damaged: {error}") from error
        if len(rows) > 1:
            differences[name] = paired_difference(rows)
    if not differences:
        raise InvalidRequestError(
            f"{first} and {second} have no text of two documents or more in common: evaluate them on the same --text",
            param="folder",
        )
    return differences


def paired_difference(rows: Sequence[Row], draws: int = DRAWS) -> Difference:
    """The difference of two models on N documents, two or more, and how certain it is."""
    values = np.array(rows)  # (N, 3)
    before, after = _bits_per_byte(values.sum(0))
    random = np.random.default_rng(_SEED)
    differences = np.concatenate(
        [_draw(values, random, min(_TOGETHER, draws - start)) for start in range(0, draws, _TOGETHER)]
    )
    low, high = np.quantile(differences, (0.025, 0.975))
    return Difference(len(rows), before, after, float(low), float(high), float((differences < 0).mean()))


def _draw(values: npt.NDArray[np.float64], random: np.random.Generator, draws: int) -> npt.NDArray[np.float64]:
    """The differences of some draws, (draws,)."""
    counts = random.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)  # (draws, N)
    before, after = _bits_per_byte((counts @ values).T)
    return np.asarray(after - before)


def _bits_per_byte(sums: Any) -> tuple[Any, Any]:
    """Of both models, from the sums of nats and bytes."""
    one, other, size = sums
    return one / size / math.log(2), other / size / math.log(2)


def _pairs(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The documents that both have read."""
    nats = {document["fingerprint"]: document["nats"] for document in other}
    return [
        (document["nats"], nats[document["fingerprint"]], document["bytes"])
        for document in one
        if document["fingerprint"] in nats
    ]
