"""Requests for generations, and what comes out of them."""

from collections import defaultdict
from collections.abc import Iterable

from handler.inference.protocol import ChoiceFinished, Event, GenerationRequest, SamplingParams, TokenGenerated

GREEDY = SamplingParams(temperature=0)


def greedy(*prompts: tuple[int, ...], **fields: object) -> GenerationRequest:
    return GenerationRequest(prompts, (GREEDY,) * len(prompts), **fields)  # type: ignore[arg-type]


def tokens_of(events: Iterable[Event]) -> dict[int, list[int]]:
    """The tokens of each choice."""
    tokens = defaultdict(list)
    for event in events:
        if isinstance(event, TokenGenerated):
            tokens[event.choice].append(event.token)
    return dict(tokens)


def reasons_of(events: Iterable[Event]) -> dict[int, str]:
    """Why each choice ended."""
    return {event.choice: event.reason for event in events if isinstance(event, ChoiceFinished)}
