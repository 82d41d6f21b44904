"""What `prepare` did, as figures and as a table: sizes, lengths in tokens, and what was dropped and why."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lifecycle.data.shards import SPLITS

_QUANTILES = {"shortest": 0.0, "median": 0.5, "longest tenth from": 0.9, "longest": 1.0}


@dataclass(slots=True)
class SplitFigures:
    """Sizes of one split; bytes are those of UTF-8, words are what white space separates.

    Attributes:
        lengths: of each document, in tokens with its `<|endoftext|>`; four bytes a document are held.
    """

    bytes: int = 0
    characters: int = 0
    words: int = 0
    lengths: "array[int]" = field(default_factory=lambda: array("I"))

    def count(self, text: str, tokens: int) -> None:
        """Count a document."""
        self.bytes += len(text.encode())
        self.characters += len(text)
        self.words += len(text.split())
        self.lengths.append(tokens)

    def as_json(self) -> dict[str, Any]:
        """The figures as they are reported."""
        tokens = sum(self.lengths)
        quantiles = np.quantile(self.lengths, list(_QUANTILES.values()), method="lower").tolist() if tokens else ()
        return {
            "documents": len(self.lengths),
            "bytes": self.bytes,
            "characters": self.characters,
            "words": self.words,
            "tokens": tokens,
            "bytes_per_token": round(self.bytes / tokens, 3) if tokens else None,
            "tokens_per_document": dict(zip(_QUANTILES, quantiles, strict=False)),
        }


@dataclass(slots=True)
class Report:
    """The figures of a run.

    Attributes:
        source: what was read.
        read: documents read.
        dropped: documents dropped, by reason.
        splits: the figures of each split.
    """

    source: str
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    splits: dict[str, SplitFigures] = field(default_factory=lambda: {split: SplitFigures() for split in SPLITS})

    def as_json(self) -> dict[str, Any]:
        """The report as it is kept."""
        splits = {split: figures.as_json() for split, figures in self.splits.items()}
        return {"source": self.source, "documents": self.read, "dropped": dict(self.dropped), "splits": splits}
