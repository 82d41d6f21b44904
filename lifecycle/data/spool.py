"""The kept documents on their way: on the disk, since the vocabulary is learned before the first is tokenized.

What is held out stays there as `validation.jsonl` and `test.jsonl`, one `{"text": ...}` a line: whatever tokenizer a
model has, it is evaluated on these.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from lifecycle.data.shards import SPLITS

_TOGETHER = 1 << 16  # characters from which on documents are tokenized, those at hand at once


class Spool:
    """One file of documents for each split."""

    def __init__(self, folder: Path) -> None:
        self._paths = {split: folder / f"{split}.jsonl" for split in SPLITS}
        self._closing = ExitStack()
        self._files = {
            split: self._closing.enter_context(path.open("w", encoding="utf-8")) for split, path in self._paths.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def add(self, split: str, text: str) -> None:
        """Append a document to a split."""
        self._files[split].write(json.dumps({"text": text}, ensure_ascii=False) + "\n")

    def read(self, split: str) -> Iterator[str]:
        """The documents of a split, in order."""
        self._files[split].flush()
        with self._paths[split].open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["text"]

    def batches(self, split: str) -> Iterator[Sequence[str]]:
        """The same, some at a time."""
        batch, characters = list[str](), 0
        for text in self.read(split):
            batch.append(text)
            characters += len(text)
            if characters >= _TOGETHER:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def forget_training(self) -> None:
        """Remove the documents that are tokens by now."""
        self._files["training"].close()
        self._paths["training"].unlink()
