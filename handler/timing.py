"""Where a request's time goes, noted by whoever spends it; its response tells it as `Server-Timing`.

What is noted belongs to the request that is worked on in this task, or in a thread that works for it: so nothing has to
be handed down from the route to the model. Where there is no HTTP request, what is noted is nobody's.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal[
    "load",  # waiting for the model
    "queue",  # waiting for a place in the running batch
    "prefill",  # reading the prompt, up to the first token
    "decode",  # the tokens after the first
]


class Timing:
    """The phases of one request, in the order in which they were first noted."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._phases: dict[str, float] = {}
        self._cold_start: Mapping[str, float] = {}

    def spent(self, phase: Phase, seconds: float) -> None:
        """Add to a phase: a request may begin several generations."""
        self._phases[phase] = self._phases.get(phase, 0.0) + seconds

    def has_read(self, submitted: float, admitted: float | None) -> None:
        """A generation has read its prompts, now.

        Args:
            submitted: when it was asked for, on the clock of `time.monotonic()`.
            admitted: when it was given its place; None where it was given none.
        """
        admitted = time.monotonic() if admitted is None else admitted
        self.spent("queue", admitted - submitted)
        self.spent("prefill", time.monotonic() - admitted)

    def was_cold(self, stages: Mapping[str, float]) -> None:
        """This request's first token was the process's first, too."""
        self._cold_start = stages

    def header(self, *, whole: bool) -> str:
        """The value of `Server-Timing` (https://www.w3.org/TR/server-timing/), in milliseconds; "" without phases.

        Args:
            whole: whether the answer is there, and with it the time in total.
        """
        if not self._phases:
            return ""
        told = dict(self._phases)
        if whole:
            told["total"] = time.monotonic() - self._began
        told |= {f"cold_start_{stage}": seconds for stage, seconds in self._cold_start.items()}
        return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in told.items())


_current: ContextVar[Timing | None] = ContextVar("timing", default=None)


def current_timing() -> Timing:
    """The timing of the request that is worked on here."""
    return _current.get() or Timing()


@contextmanager
def timed() -> Iterator[Timing]:
    """Note what the request costs that is worked on in this block."""
    timing = Timing()
    token = _current.set(timing)
    try:
        yield timing
    finally:
        _current.reset(token)
