"""A step engine whose next token is arithmetic on everything before it, so that a test can say what must come out.

It keeps the same books as a real one (slots, positions, what was appended) and refuses what a real one would refuse.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from handler.inference.protocol import FloatArray

VOCABULARY = 50
CONTEXT = 64

Rule: TypeAlias = Callable[[Sequence[int], int], int]


def next_token(tokens: Sequence[int], vocabulary: int = VOCABULARY) -> int:
    """The token this engine finds most probable after `tokens`; never the last one, which is the end of text."""
    value = 7
    for token in tokens:
        value = (value * 31 + token + 1) % 10_007
    return value % (vocabulary - 1)


def cycle(tokens: Sequence[int], vocabulary: int = VOCABULARY) -> int:
    """Another rule for the most probable token: 0 to 6 over and over."""
    return (tokens[-1] + 1) % 7


def continuation(prompt: Sequence[int], count: int, vocabulary: int = VOCABULARY) -> list[int]:
    """The greedy output after a prompt."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens, vocabulary))
    return tokens[len(prompt) :]


class FakeEngine:
    """Keeps what it is asked for in `chunks` and `steps`.

    With `permits` it computes only as often as that semaphore is released, so that a test decides when a step happens.
    `idle` is set while no slot is taken.
    """

    name = "fake"
    batch_invariant = True

    def __init__(
        self,
        slots: int = 8,
        *,
        seconds_per_step: float = 0.0,
        context_length: int = CONTEXT,
        vocabulary_size: int = VOCABULARY,
        rule: Rule = next_token,
        permits: threading.Semaphore | None = None,
    ) -> None:
        self.context_length = context_length
        self.vocabulary_size = vocabulary_size
        self.slot_count = slots
        self.free = list(range(slots))
        self.held: dict[int, list[int]] = {}
        self.chunks: list[list[int]] = []  # the lengths of the chunks of each call of prefill
        self.steps: list[int] = []  # the batch size of each decode step
        self.fail_with: Exception | None = None
        self._seconds_per_step = seconds_per_step
        self._rule = rule
        self._permits = permits
        self.idle = threading.Event()
        self.idle.set()

    @property
    def prefilled(self) -> int:
        """The tokens of all chunks."""
        return sum(map(sum, self.chunks))

    def acquire(self) -> int | None:
        """Take a free slot."""
        if not self.free:
            return None
        slot = self.free.pop(0)
        self.held[slot] = []
        self.idle.clear()
        return slot

    def fork(self, slot: int, length: int) -> int | None:
        """Copy a slot's beginning."""
        assert len(self.held[slot]) >= length
        copy = self.acquire()
        if copy is not None:
            self.held[copy] = self.held[slot][:length]
        return copy

    def truncate(self, slot: int, length: int) -> None:
        """Keep the first tokens of a slot."""
        assert len(self.held[slot]) >= length
        del self.held[slot][length:]

    def release(self, slot: int) -> None:
        """Give a slot back."""
        del self.held[slot]
        self.free.append(slot)
        if not self.held:
            self.idle.set()

    def prefill(
        self, slots: Sequence[int], chunks: Sequence[Sequence[int]], *, all_logits: bool = False
    ) -> list[FloatArray]:
        """Append the chunks."""
        self._compute(slots)
        self.chunks.append([len(chunk) for chunk in chunks])
        result = []
        for slot, chunk in zip(slots, chunks, strict=True):
            assert chunk
            rows = [self._append(slot, token) for token in chunk]
            result.append(np.stack(rows if all_logits else rows[-1:]))
        return result

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> FloatArray:
        """Append one token to each."""
        self._compute(slots)
        self.steps.append(len(slots))
        return np.stack([self._append(slot, token) for slot, token in zip(slots, tokens, strict=True)])

    def _compute(self, slots: Sequence[int]) -> None:
        if self._permits is not None:
            assert self._permits.acquire(timeout=60)  # a test that has failed ends all the same
        if self.fail_with is not None:
            raise self.fail_with
        assert len(set(slots)) == len(slots)
        time.sleep(self._seconds_per_step)

    def _append(self, slot: int, token: int) -> FloatArray:
        self.held[slot].append(token)
        assert len(self.held[slot]) <= self.context_length
        logits = np.zeros(self.vocabulary_size, dtype=np.float32)
        logits[self._rule(self.held[slot], self.vocabulary_size)] = 5.0
        return logits
