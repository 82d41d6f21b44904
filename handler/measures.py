"""What is measured of a request. Whoever is told (the log, Prometheus) gives each figure the same name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class CompletionMeasures:
    """A completion in figures; times are in seconds, and None where there was not what they end with.

    Attributes:
        model: the model's name.
        version: its version.
        prompt_tokens: the tokens of all prompts together.
        completion_tokens: those of all choices.
        choices: how many choices were asked for.
        finish_reasons: why they ended, each reason once.
        batch_size: the choices in the running batch once this request's had been added.
        seconds: from the request to its end.
        queue_seconds: from the request to its first place in the running batch.
        time_to_first_token: from the request to the first token.
        time_between_tokens: the mean of the longest choice.
    """

    model: str
    version: str
    prompt_tokens: int
    completion_tokens: int
    choices: int
    finish_reasons: Sequence[str]
    batch_size: int
    seconds: float
    queue_seconds: float | None
    time_to_first_token: float | None
    time_between_tokens: float | None


Completed: TypeAlias = Callable[[CompletionMeasures], None]
"""Told of each completion when it is over, from the thread that has read it."""
