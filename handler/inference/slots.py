"""Which slots of a key-value cache are taken, and how many tokens each holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from handler.errors import ContextLengthExceededError


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
    """The book-keeping that step engines share; keys and values themselves are the engine's."""

    def __init__(self, count: int, context_length: int) -> None:
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
