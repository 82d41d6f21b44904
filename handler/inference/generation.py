"""A request being worked on, as seen by the thread that asked for it: its events come through a queue."""

import time
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Protocol, TypeAlias

from handler.inference.protocol import ChoiceFinished, Event

EventQueue: TypeAlias = SimpleQueue[list[Event] | Exception | None]


class Worked(Protocol):
    """One choice of the request, as whoever works on it keeps it."""

    @property
    def index(self) -> int:
        """Which choice it is."""

    @property
    def admitted(self) -> float | None:
        """When it was given its place, on the clock of `time.monotonic()`; None before that."""

    def cancel(self) -> None:
        """Give it up; from any thread."""


class QueuedGeneration:
    """A `Generation` over a queue that somebody else fills.

    Attributes:
        engine: the name of the engine that works on it.
        submitted: when it was asked for, on the clock of `time.monotonic()`.
    """

    def __init__(self, choices: Sequence[Worked], events: EventQueue, engine: str) -> None:
        self.engine = engine
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
        """When the first choice was given its place, on the same clock; None before that."""
        return min((choice.admitted for choice in self._choices if choice.admitted is not None), default=None)

    def cancel(self, choice: int | None = None) -> None:
        """Give up one choice, or all of them; from any thread."""
        for one in self._choices if choice is None else [self._choices[choice]]:
            one.cancel()
            self._open.discard(one.index)
        self._events.put(None)  # wakes whoever waits for events
