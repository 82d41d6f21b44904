"""Pages of random words: a corpus as large as is asked for, made one page at a time."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

_WORDS = [f"{start}{middle}{end}" for start in "bdfklmprst" for middle in ("a", "ee", "io") for end in "bdglmnrstx"]


def pages(count: int, words: int = 120, seed: int = 0) -> Iterator[str]:
    """So many pages, no two alike."""
    rng = random.Random(seed)
    for _ in range(count):
        yield " ".join(rng.choices(_WORDS, k=words))


def write_pages(path: Path, count: int, words: int = 120, seed: int = 0) -> Path:
    """The same as JSON lines."""
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": page}) + "\n" for page in pages(count, words, seed))
    return path
