"""The sequences that transformers' continuous batching works on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from transformers.generation.continuous_batching.requests import GenerationOutput

from handler.inference.generation import EventQueue
from handler.inference.protocol import (
    ChoiceFinished,
    Event,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    TokenGenerated,
)


@dataclass(eq=False)
class ManagedSequence:
    """One choice of a request.

    Attributes:
        id: the manager's name for it.
        index: which choice of its request it is.
        prompt: token ids.
        sampling: how tokens are chosen.
        request: what it belongs to.
        events: where what happens to it is told.
        give_up: tells the manager that nobody wants it any more.
        given: how many tokens are known.
        gathered: what has not been told yet.
        admitted: when it was given its first pages, on the clock of `time.monotonic()`; known with the first token.
    """

    id: str
    index: int
    prompt: tuple[int, ...]
    sampling: SamplingParams
    request: GenerationRequest
    events: EventQueue
    give_up: Callable[["ManagedSequence"], None]
    given: int = 0
    gathered: list[Event] = field(default_factory=list)
    admitted: float | None = None

    def cancel(self) -> None:
        """Give it up; from any thread."""
        self.give_up(self)

    def is_late(self, now: float) -> bool:
        """Whether its time is up, on the clock of `time.time()`."""
        return self.request.deadline is not None and now >= self.request.deadline

    def advance(self, output: GenerationOutput) -> None:
        """Tell the tokens that are new in an output, which holds all of them, and the end if there is one."""
        if self.admitted is None:
            # The output's times are of another clock, which runs as fast.
            self.admitted = time.monotonic() - (time.perf_counter() - output.lifespan[0])
        tokens, is_first = output.generated_tokens, self.given == 0
        stopped = tokens[-1] in self.request.stop_tokens
        new = tokens[self.given : len(tokens) - stopped]
        self.gathered += [TokenGenerated(self.index, token, None) for token in new]
        self.given = len(tokens)
        if output.is_finished():
            self.finish("stop" if stopped else "length")
        elif is_first or self.request.piecewise:
            self._hand_out()

    def finish(self, reason: FinishReason) -> None:
        """Tell that it is complete."""
        self.gathered.append(ChoiceFinished(self.index, reason))
        self._hand_out()

    def fail(self, error: Exception) -> None:
        """Tell that it has come to nothing."""
        self.events.put(error)

    def _hand_out(self) -> None:
        self.events.put(self.gathered)
        self.gathered = []
