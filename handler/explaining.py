"""Why this next token: what else was probable, and which tokens of the prompt it came from.

How much a prompt's token contributed is found out by occlusion: the model reads the prompt without it, and what that
takes from the log-probability of the token in question is its contribution, in nats. At 0 it made no difference; at
ln 2 = 0.69 the token in question is half as probable without it; below 0 it spoke against it. The idea is that of
Zeiler and Fergus (2014, "Visualizing and understanding convolutional networks"), for words that of Li, Monroe and
Jurafsky (2016, "Understanding neural networks through representation erasure", arXiv:1612.08220).

Contributions need not add up to anything: of two tokens that say the same, each may be left out without loss. And a
token left out moves those behind it one place to the front.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from handler.inference.protocol import TokenLogprobs

Score: TypeAlias = Callable[[Sequence[Sequence[int]]], list[list[TokenLogprobs]]]
"""Reads texts together, and says of each token but the first how probable it is after those before it."""


@dataclass(frozen=True, slots=True)
class Position:
    """One token of the continuation.

    Attributes:
        scores: how probable it is there, what else is, and how uncertain the model is.
        contributions: of each token of the prompt, in nats.
    """

    scores: TokenLogprobs
    contributions: list[float]


def explain(prompt: Sequence[int], continuation: Sequence[int], start: int, score: Score) -> list[Position]:
    """Explain each token of a continuation.

    Args:
        prompt: at least one token.
        continuation: the tokens in question; each is read after the prompt and those before it.
        start: the token that begins a text, read in place of a prompt that has no token left.
        score: reads texts; it is called once, with the prompt whole, and without each of its tokens.
    """
    variants = [[*prompt[:i], *prompt[i + 1 :]] or [start] for i in range(len(prompt))]
    whole, *without = (
        scores[-len(continuation) :] for scores in score([[*text, *continuation] for text in (prompt, *variants)])
    )
    return [
        Position(scores, [scores.logprob - variant[j].logprob for variant in without]) for j, scores in enumerate(whole)
    ]
