"""What an engine makes of texts: how probable it found every token, whether it was right, and how sure it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from handler.inference.protocol import FloatArray, StepEngine
from handler.inference.tokenizer import Tokenizer
from lifecycle.comparing import CHUNK, log_softmax, read_logits
from lifecycle.data.fingerprints import fingerprint
from lifecycle.evaluating.perplexity import Perplexity
from lifecycle.evaluating.windows import IGNORED, sliding_windows

BINS = 15  # of confidence, as many as in Guo et al. 2017

Sums = npt.NDArray[np.float64]


def _zeros() -> Sums:
    return np.zeros(BINS)


@dataclass(frozen=True, slots=True)
class DocumentScore:
    """A document's share of a text's figures: what two models are compared by."""

    fingerprint: int
    nats: float
    tokens: int
    words: int
    bytes: int


@dataclass(slots=True)
class Calibration:
    """Sums over tokens by how probable the model found its own first choice, in bins of equal width.

    Attributes:
        tokens: how many there are in each bin.
        confidence: the sum of those probabilities.
        correct: how often the first choice was what came.
    """

    tokens: Sums = field(default_factory=_zeros)
    confidence: Sums = field(default_factory=_zeros)
    correct: Sums = field(default_factory=_zeros)

    def add(self, confidence: FloatArray, correct: npt.NDArray[np.bool_]) -> None:
        """Count T tokens."""
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        self.tokens += np.bincount(bins, minlength=BINS)
        self.confidence += np.bincount(bins, weights=confidence, minlength=BINS)
        self.correct += np.bincount(bins, weights=correct, minlength=BINS)

    @property
    def accuracy(self) -> float:
        """How often the most probable token was what came."""
        return float(self.correct.sum() / self.tokens.sum())

    @property
    def error(self) -> float:
        """The expected calibration error: how far confidence and accuracy lie apart, mean over tokens.

        Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
        """
        return float(np.abs(self.correct - self.confidence).sum() / self.tokens.sum())

    def as_json(self) -> list[dict[str, float]]:
        """The bins that are not empty."""
        return [
            {"tokens": int(tokens), "confidence": round(sure / tokens, 4), "accuracy": round(right / tokens, 4)}
            for tokens, sure, right in zip(self.tokens, self.confidence, self.correct, strict=True)
            if tokens
        ]


@dataclass(slots=True)
class TextScore:
    """All there is to say of a text.

    Attributes:
        documents: its documents, in order.
        calibration: over all of its tokens.
    """

    documents: list[DocumentScore] = field(default_factory=list)
    calibration: Calibration = field(default_factory=Calibration)

    def as_json(self) -> dict[str, Any]:
        """The text's figures as they are reported."""
        sums = {
            name: sum(getattr(one, name) for one in self.documents) for name in ("nats", "tokens", "words", "bytes")
        }
        return {
            **Perplexity(**sums).as_json(),
            "accuracy": round(self.calibration.accuracy, 4),
            "calibration_error": round(self.calibration.error, 4),
        }


def score_text(
    engine: StepEngine,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    *,
    stride: int,
    progress: Callable[[int], None] = lambda _tokens: None,
) -> TextScore:
    """Have an engine predict every token of every document, each from the token on that a text begins with.

    The window is the engine's context, and slides by `stride`: only the first token of a document is predicted from
    nothing, and every token behind the first window from at least the context less the stride.

    Args:
        engine: what predicts.
        tokenizer: the model's.
        documents: the texts; one without a word is left out.
        stride: from 1 to the context.
        progress: told how many tokens more have been scored.
    """
    score = TextScore()
    for document in documents:
        if not document.split():
            continue
        ids = np.array([tokenizer.begin_of_text, *tokenizer.encode_document(document)])
        nats = 0.0
        for row, targets in zip(*sliding_windows(ids, engine.context_length, stride), strict=True):
            nats += _score_window(engine, row, targets, score.calibration)
            progress(int((targets != IGNORED).sum()))
        words, size = len(document.split()), len(document.encode())
        score.documents.append(DocumentScore(fingerprint(document), nats, len(ids) - 1, words, size))
    return score


def _score_window(
    engine: StepEngine, inputs: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], calibration: Calibration
) -> float:
    """The negative log-likelihood of a window's targets, in nats; what is behind the last one is not read."""
    length = int(np.flatnonzero(targets != IGNORED)[-1]) + 1
    nats = 0.0
    for start, logits in zip(range(0, length, CHUNK), read_logits(engine, inputs[:length].tolist()), strict=True):
        wanted = targets[start : start + len(logits)]
        scored = wanted != IGNORED
        if not scored.any():
            continue
        found, came = log_softmax(logits[scored]), wanted[scored]
        best = found.argmax(1)
        rows = np.arange(len(came))
        nats -= float(found[rows, came].sum(dtype=np.float64))
        calibration.add(np.exp(found[rows, best]), best == came)
    return nats
