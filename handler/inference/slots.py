"""What step engines share: the slots of the key-value cache, and how a step's chunks become one row of tokens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from handler.errors import ContextLengthExceededError, UnsupportedModelError
from handler.inference.protocol import FloatArray

# More sequences than this in one batch make each of them slower without making all of them faster.
MAX_SLOTS: Final = 64


@dataclass(frozen=True, slots=True)
class Span:
    """Where one sequence's new tokens lie: in the row of all tokens of a step, and in the cache."""

    slot: int
    past: int  # tokens of the sequence that are in the cache already
    start: int
    stop: int

    @property
    def length(self) -> int:
        """The tokens in the cache once these are appended (L)."""
        return self.past + self.stop - self.start


class Slots:
    """Which slots are taken, and how many tokens each holds; keys and values themselves are the engine's."""

    def __init__(self, count: int, context_length: int) -> None:
        self.count = count
        self._context_length = context_length
        self._lengths: dict[int, int] = {}
        self._free = list(reversed(range(count)))

    def acquire(self, length: int = 0) -> int | None:
        """Take a free slot that holds, or is about to hold, `length` tokens; None if there is none."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._lengths[slot] = length
        return slot

    def release(self, slot: int) -> None:
        """Give a slot back."""
        del self._lengths[slot]
        self._free.append(slot)

    def truncate(self, slot: int, length: int) -> None:
        """Keep a slot's first `length` tokens."""
        self.check_holds(slot, length)
        self._lengths[slot] = length

    def check_holds(self, slot: int, length: int) -> None:
        """Raise ValueError unless the slot holds at least `length` tokens."""
        if not 0 <= length <= self._lengths[slot]:
            raise ValueError(f"slot {slot} holds {self._lengths[slot]} tokens, not {length}")

    def spans(self, slots: Sequence[int], chunks: Sequence[Sequence[int]]) -> list[Span]:
        """Where the chunks will lie, once it is certain that all of them fit.

        Raises:
            ContextLengthExceededError: a chunk does not fit behind what its slot holds.
        """
        if len(set(slots)) != len(slots) or len(slots) != len(chunks):
            raise ValueError(f"each slot takes one chunk, given slots {list(slots)} and {len(chunks)} chunks")
        spans = []
        start = 0
        for slot, chunk in zip(slots, chunks, strict=True):
            span = Span(slot, self._lengths[slot], start, start + len(chunk))
            if not chunk:
                raise ValueError(f"the chunk for slot {slot} has no tokens")
            if span.length > self._context_length:
                raise ContextLengthExceededError(
                    f"a sequence may have at most {self._context_length} tokens, this model's context; "
                    f"given: {span.past} and {len(chunk)} more"
                )
            spans.append(span)
            start = span.stop
        return spans

    def appended(self, spans: Sequence[Span]) -> None:
        """Note that the spans' tokens are in the cache."""
        for span in spans:
            self._lengths[span.slot] = span.length


class SlottedEngine(ABC):
    """A `StepEngine` but for its arithmetic: a subclass says what the forward pass is, and how a slot is copied."""

    def __init__(self, *, context_length: int, vocabulary_size: int, slot_bytes: int, kv_cache_bytes: int) -> None:
        """Find out how many sequences fit.

        Args:
            context_length: the most tokens one slot holds.
            vocabulary_size: the number of logits per position (V).
            slot_bytes: what the keys and values of one sequence as long as the context take.
            kv_cache_bytes: room for keys and values; the slots are as many sequences as fit.

        Raises:
            UnsupportedModelError: not one does.
        """
        count = min(kv_cache_bytes // slot_bytes, MAX_SLOTS)
        if count == 0:
            raise UnsupportedModelError(
                f"KV_CACHE_MB must leave room for at least one sequence, which takes {slot_bytes:,} bytes; "
                f"given: {kv_cache_bytes:,}"
            )
        self.context_length, self.vocabulary_size = context_length, vocabulary_size
        self._slots = Slots(count, context_length)

    @property
    def slot_count(self) -> int:
        """How many slots there are, free or taken."""
        return self._slots.count

    def acquire(self) -> int | None:
        """Take a free, empty slot, or None if the key-value cache is fully used."""
        return self._slots.acquire()

    def fork(self, slot: int, length: int) -> int | None:
        """Take a free slot that starts as a copy of another slot's first `length` tokens, or None."""
        self._slots.check_holds(slot, length)
        copy = self._slots.acquire(length)
        if copy is not None:
            self._copy(slot, copy, length)
        return copy

    def truncate(self, slot: int, length: int) -> None:
        """Keep a slot's first `length` tokens and forget those behind."""
        self._slots.truncate(slot, length)

    def release(self, slot: int) -> None:
        """Give a slot back."""
        self._slots.release(slot)

    def prefill(
        self, slots: Sequence[int], chunks: Sequence[Sequence[int]], *, all_logits: bool = False
    ) -> list[FloatArray]:
        """Append a chunk of at least one token to each slot.

        Returns:
            For each slot the logits after its last token, (1, V), or with `all_logits` after every token, (t, V).

        Raises:
            ContextLengthExceededError: a chunk does not fit behind what its slot holds; nothing was appended.
        """
        spans = self._slots.spans(slots, chunks)
        rows = range(spans[-1].stop) if all_logits else [span.stop - 1 for span in spans]
        logits = self._step(list(chain.from_iterable(chunks)), spans, rows)
        if all_logits:
            return [logits[span.start : span.stop] for span in spans]
        return [row[None] for row in logits]

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> FloatArray:
        """Append one token to each slot and return the logits after it, (B, V).

        Raises:
            ContextLengthExceededError: a slot is full; nothing was appended.
        """
        return self._step(tokens, self._slots.spans(slots, [(token,) for token in tokens]), range(len(tokens)))

    def _step(self, tokens: Sequence[int], spans: Sequence[Span], rows: Sequence[int]) -> FloatArray:
        logits = self._forward(tokens, spans, rows)
        self._slots.appended(spans)
        return logits

    @abstractmethod
    def _forward(self, tokens: Sequence[int], spans: Sequence[Span], rows: Sequence[int]) -> FloatArray:
        """The logits after the tokens whose indices are in `rows`, ascending, (R, V); all tokens go into the cache."""

    @abstractmethod
    def _copy(self, slot: int, copy: int, length: int) -> None:
        """Copy the keys and values of a slot's first `length` tokens."""
