"""Requests for which queueing theory knows the answers: random arrivals, one token read, some written."""

import random
from collections.abc import Callable

from lifecycle.planning.traffic import Request, Traffic

TOKENS = 1000  # of an answer, on average, so that rounding to whole ones does not show


def poisson(rate: float, count: int, output: Callable[[random.Random], float], seed: int = 0) -> Traffic:
    """So many requests at random, at a rate a second."""
    dice, at, requests = random.Random(seed), 0.0, []
    for _ in range(count):
        at += dice.expovariate(rate)
        requests.append(Request(at, 1, max(1, round(output(dice)))))
    return Traffic(tuple(requests), at, (rate,))


def exponential(dice: random.Random) -> float:
    """Exponentially distributed lengths."""
    return dice.expovariate(1 / TOKENS)


def constant(dice: random.Random) -> float:
    """Lengths that are all the same."""
    return TOKENS
