"""The sequences a scheduler works on, and the request they belong to as seen from outside."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final, TypeAlias

from handler.inference.drafting import Drafter
from handler.inference.protocol import (
    ChoiceFinished,
    Event,
    FinishReason,
    FloatArray,
    GenerationRequest,
    SamplingParams,
    TokenGenerated,
    TokenLogprobs,
)
from handler.inference.sampling import History, choose, logprobs_of

NO_SLOT: Final = -1

EventQueue: TypeAlias = SimpleQueue[list[Event] | Exception | None]


class SchedulerGeneration:
    """A request being worked on, seen from the thread that asked for it.

    Attributes:
        submitted: when it was asked for, on the clock of `time.monotonic()`.
    """

    def __init__(self, choices: "list[Choice]", events: EventQueue) -> None:
        self.submitted = time.monotonic()
        self._choices = choices
        self._events = events
        self._open = {choice.index for choice in choices}

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they happen; errors of the engine are raised here."""
        while self._open:
            events = self._events.get()
            if isinstance(events, Exception):
                raise events
            for event in events or ():
                if event.choice not in self._open:
                    continue  # it was cancelled, and this was on its way
                if isinstance(event, ChoiceFinished):
                    self._open.discard(event.choice)
                yield event

    @property
    def admitted(self) -> float | None:
        """When the first choice was given its slot, on the same clock; None before that."""
        return min((choice.admitted for choice in self._choices if choice.admitted is not None), default=None)

    def cancel(self, choice: int | None = None) -> None:
        """Give up one choice, or all of them; from any thread."""
        for one in self._choices if choice is None else [self._choices[choice]]:
            one.cancelled = True
            self._open.discard(one.index)
        self._events.put(None)  # wakes whoever waits for events


@dataclass(eq=False)
class Prompt:
    """What the samples of one prompt share: once its reader has read it, the others need not."""

    tokens: tuple[int, ...]
    reader: "Choice | None" = None
    scores: list[TokenLogprobs | None] = field(default_factory=list)
    last_logits: FloatArray = field(init=False)  # (V,), there once it is read


@dataclass(eq=False)
class Choice:
    """One sequence on its way from waiting, through prefill and decode, to finished."""

    index: int
    sample: int
    prompt: Prompt
    sampling: SamplingParams
    request: GenerationRequest
    events: EventQueue
    slot: int = NO_SLOT
    admitted: float | None = None  # when it was given the slot
    position: int = 0  # prompt tokens that lie in the slot
    output: list[int] = field(default_factory=list)
    history: History = field(init=False)
    drafter: Drafter = field(init=False)
    gathered: list[Event] = field(default_factory=list)  # not handed out yet
    cancelled: bool = False
    finished: bool = False

    def __post_init__(self) -> None:
        self.history = History(self.prompt.tokens)
        self.drafter = Drafter(self.prompt.tokens)

    @property
    def has_read(self) -> bool:
        """Whether the whole prompt lies in the slot."""
        return self.position == len(self.prompt.tokens)

    @property
    def length(self) -> int:
        """The tokens of prompt and output together."""
        return len(self.prompt.tokens) + len(self.output)

    def advance(self, logits: FloatArray) -> None:
        """Draw the next token from the logits (V,) after the last one."""
        request, step = self.request, len(self.output)
        token = choose(logits, self.sampling, self.history, sample=self.sample, step=step)
        scores = None if request.logprobs is None else logprobs_of(logits, token, request.logprobs)
        if token in request.stop_tokens:
            self.finish("stop", scores)
            return
        self.history.add(token)
        self.drafter.add(token)
        self.output.append(token)
        self.tell(TokenGenerated(self.index, token, scores))
        if step + 1 == request.max_tokens:
            self.finish("length")
        elif step == 0 or request.piecewise:
            self.hand_out()

    def draft(self, room: int) -> list[int]:
        """Guess the next tokens: at most `room`, and none behind the one that would be the last."""
        return self.drafter.propose(min(room, self.request.max_tokens - len(self.output) - 1))

    def check(self, draft: list[int], logits: FloatArray) -> None:
        """Draw tokens from the logits (1 + d, V) after the last one and each of a draft, as far as the draft is right.

        A row of logits counts only if all of the draft before it is what has been drawn.
        """
        accepted = 0
        for row in logits:
            self.advance(row)
            if self.finished or accepted == len(draft) or self.output[-1] != draft[accepted]:
                break
            accepted += 1
        if draft:
            self.drafter.checked(len(draft), accepted)

    def finish(self, reason: FinishReason, end: TokenLogprobs | None = None) -> None:
        """Mark as complete and tell whoever iterates."""
        self.finished = True
        self.tell(ChoiceFinished(self.index, reason, end))
        self.hand_out()

    def tell(self, event: Event) -> None:
        """Keep an event for whoever iterates."""
        self.gathered.append(event)

    def hand_out(self) -> None:
        """Let whoever iterates have the events so far, and wake them."""
        self.events.put(self.gathered)
        self.gathered = []
