"""Perplexity: per token, per word and, as bits per byte, whatever the tokenizer."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Perplexity:
    """How well a model predicts a text; the text itself decides words and bytes, the tokenizer only tokens.

    Attributes:
        nats: negative log-likelihood of the whole text, natural logarithm.
        tokens: tokens predicted.
        words: words of the text, as white space separates them.
        bytes: size of the text in UTF-8.
    """

    nats: float
    tokens: int
    words: int
    bytes: int

    def as_json(self) -> dict[str, float | int]:
        """The figures as they are reported."""
        return {
            "perplexity_per_token": round(math.exp(self.nats / self.tokens), 3),
            "perplexity_per_word": round(math.exp(self.nats / self.words), 2),
            "bits_per_byte": round(self.nats / math.log(2) / self.bytes, 4),
            "tokens": self.tokens,
            "words": self.words,
            "bytes": self.bytes,
        }
