"""Two engines side by side on the same text: what one loses against the other."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handler.errors import InvalidRequestError
from handler.inference.protocol import FloatArray, GenerationRequest, SamplingParams, StepEngine, TokenGenerated
from handler.inference.scheduler import Scheduler
from handler.inference.tokenizer import Tokenizer
from lifecycle.training.corpus import read_texts

CHUNK = 128  # tokens whose logits are held at once: 2 x 26 MB for GPT-2's vocabulary
OWN_TEXTS, OWN_LENGTH = 8, 256


@dataclass(slots=True)
class Comparison:
    """Sums over the tokens compared so far, in nats.

    Attributes:
        tokens: tokens predicted.
        before: negative log-likelihood under the first engine.
        after: the same under the second.
        divergence: Kullback-Leibler divergence of the second's distributions from the first's.
        agreed: positions at which both find the same token most probable.
    """

    tokens: int = 0
    before: float = 0.0
    after: float = 0.0
    divergence: float = 0.0
    agreed: int = 0

    def add(self, first: FloatArray, second: FloatArray, targets: Sequence[int]) -> None:
        """Count T positions: the logits of both engines, (T, V) each, and the tokens that came."""
        rows = np.arange(len(targets))
        p, q = log_softmax(first), log_softmax(second)
        self.tokens += len(targets)
        self.before -= float(p[rows, targets].sum())
        self.after -= float(q[rows, targets].sum())
        self.divergence += float((np.exp(p) * (p - q)).sum())
        self.agreed += int((first.argmax(1) == second.argmax(1)).sum())

    @property
    def perplexities(self) -> tuple[float, float]:
        """Of the first engine and of the second."""
        return math.exp(self.before / self.tokens), math.exp(self.after / self.tokens)


def compare(
    first: StepEngine, second: StepEngine, windows: Sequence[Sequence[int]], progress: Callable[[int], None]
) -> Comparison:
    """Have both engines predict every token of every window but its first.

    Args:
        first: the engine that is held against.
        second: the engine that is measured.
        windows: token ids, from two to as many as the context each.
        progress: told how many tokens more have been read.
    """
    comparison = Comparison()
    for window in windows:
        inputs, targets = window[:-1], window[1:]
        for start, one, other in zip(
            range(0, len(inputs), CHUNK), read_logits(first, inputs), read_logits(second, inputs), strict=True
        ):
            comparison.add(one, other, targets[start : start + CHUNK])
            progress(len(one))
    return comparison


def read_logits(engine: StepEngine, tokens: Sequence[int]) -> Iterator[FloatArray]:
    """The logits after every token, CHUNK tokens at a time; each is valid until the next is asked for."""
    slot = engine.acquire()
    if slot is None:
        raise RuntimeError("the engine has no free slot")
    try:
        for start in range(0, len(tokens), CHUNK):
            yield engine.prefill([slot], [tokens[start : start + CHUNK]], all_logits=True)[0]
    finally:
        engine.release(slot)


def log_softmax(logits: FloatArray) -> FloatArray:
    """The logarithms of the probabilities that logits stand for, row by row, (T, V)."""
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def text_windows(tokenizer: Tokenizer, texts: Path, context: int, tokens: int) -> list[list[int]]:
    """Up to `tokens` tokens of texts, evenly from all of their documents, in windows that start as a text does.

    Args:
        tokenizer: the model's.
        texts: a plain-text file, or a folder of `*.txt` files.
        context: the longest window.
        tokens: the most tokens in all.

    Raises:
        InvalidRequestError: there is no text there.
    """
    room = context - 1
    windows = [
        [tokenizer.begin_of_text, *ids[start : start + room]]
        for book in read_texts(texts)
        for document in book.documents
        for ids in [tokenizer.encode_document(document)]
        for start in range(0, len(ids), room)
    ]
    windows = [window for window in windows if len(window) >= min(context, 32)]
    if not windows:
        raise InvalidRequestError(f"text: {texts} holds no text long enough to be predicted", param="text")
    step = max(1, sum(map(len, windows)) // tokens)
    return windows[::step]


def own_windows(tokenizer: Tokenizer, engine: StepEngine, seed: int = 0) -> list[list[int]]:
    """Texts that the model writes itself, sampled as it finds them probable.

    On its own samples a model's perplexity is what it ought to be, and whatever is done to its weights can only raise
    it in expectation, by the divergence: a fair measure where no text of the model's own kind is at hand.
    """
    length = min(OWN_LENGTH, engine.context_length)
    prompt = (tokenizer.begin_of_text,)
    scheduler = Scheduler(engine)
    windows = [list(prompt) for _ in range(OWN_TEXTS)]
    request = GenerationRequest((prompt,), (SamplingParams(seed=seed),), n=OWN_TEXTS, max_tokens=length - 1)
    for event in scheduler.submit(request):
        if isinstance(event, TokenGenerated):
            windows[event.choice].append(event.token)
    scheduler.close()
    return windows
