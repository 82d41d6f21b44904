"""What a sequence hands out of its tokens, and when."""

from queue import SimpleQueue

import numpy as np

from handler.inference.choices import Choice, EventQueue, Prompt
from handler.inference.protocol import ChoiceFinished, Event, GenerationRequest, SamplingParams, TokenGenerated

GREEDY = SamplingParams(temperature=0)


def handed_out(*, piecewise: bool) -> list[list[Event] | Exception | None]:
    """What wakes whoever iterates, of a choice that draws four tokens."""
    events: EventQueue = SimpleQueue()
    request = GenerationRequest(((1,),), (GREEDY,), max_tokens=4, piecewise=piecewise)
    choice = Choice(0, 0, Prompt((1,)), GREEDY, request, events)
    for token in (5, 6, 7, 8):
        choice.advance(np.eye(9, dtype=np.float32)[token])
    return [events.get_nowait() for _ in range(events.qsize())]


FIVE, SIX, SEVEN, EIGHT = (TokenGenerated(0, token, None) for token in (5, 6, 7, 8))
END = ChoiceFinished(0, "length")


def test_who_looks_at_each_token_is_woken_by_each() -> None:
    assert handed_out(piecewise=True) == [[FIVE], [SIX], [SEVEN], [EIGHT, END]]


def test_who_does_not_is_woken_by_the_first_and_the_last() -> None:
    assert handed_out(piecewise=False) == [[FIVE], [SIX, SEVEN, EIGHT, END]]
