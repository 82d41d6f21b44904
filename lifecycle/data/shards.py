"""Token shards: a corpus as token ids, in files that are mapped and not loaded.

A folder of shards holds, for each split (training, validation, test), files `SPLIT-NNNNN.bin` of token ids without any
header, little-endian, two bytes each, or four where the vocabulary has more than 65,536 tokens. Read one after the
other they are the split's documents, each begun by `<|endoftext|>`. `index.json` says which type the ids have, and of
every file the tokens and the SHA-256. Beside them lies the `tokenizer.json` that made the ids. The fingerprints of
the documents that are trained on are in `training.fingerprints`, those of the others in the index.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self, cast

import numpy as np
import numpy.typing as npt

from handler.errors import CorruptModelError
from lifecycle.checkpoint import read_json, write_json

INDEX: Final = "index.json"
TRAINED_ON: Final = "training.fingerprints"
SCHEMA: Final = 1
SPLITS: Final = ("training", "validation", "test")
_SHARD_TOKENS: Final = 1 << 27  # after which another shard is begun: 256 MB of two-byte ids
_PIECE: Final = 1 << 24  # bytes hashed at once

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shard:
    """One file: its name, its tokens, and its SHA-256 in hex digits."""

    file: str
    tokens: int
    sha256: str


class ShardWriter:
    """Writes one split, document by document."""

    def __init__(self, folder: Path, split: str, vocabulary_size: int, shard_tokens: int = _SHARD_TOKENS) -> None:
        self._folder, self._split, self._dtype = folder, split, dtype_of(vocabulary_size)
        self._shard_tokens = shard_tokens
        self._shards: list[Shard] = []
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, ids: Ids) -> None:
        """Append a document."""
        if self._tokens >= self._shard_tokens:
            self._finish()
            self._begin()
        data = ids.astype(self._dtype).tobytes()
        self._file.write(data)
        self._digest.update(data)
        self._tokens += len(ids)

    def finish(self) -> list[Shard]:
        """Finish the last file, and tell what there is."""
        self._finish()
        return self._shards

    def _begin(self) -> None:
        self._file = (self._folder / f"{self._split}-{len(self._shards):05}.bin").open("wb")
        self._digest, self._tokens = hashlib.sha256(), 0

    def _finish(self) -> None:
        self._file.close()
        self._shards.append(Shard(Path(self._file.name).name, self._tokens, self._digest.hexdigest()))


class ShardedTokens:
    """The tokens of one split as one long row, of which any may be asked for; the files stay on the disk."""

    def __init__(self, maps: Sequence[npt.NDArray[Any]]) -> None:
        self._maps = maps
        self._ends = np.cumsum([len(one) for one in maps])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, indices: npt.NDArray[np.integer[Any]]) -> Ids:
        """The tokens at these places, in the same shape."""
        shards = np.searchsorted(self._ends, indices, side="right")
        found = np.empty(indices.shape, np.int64)
        for number in np.unique(shards):
            here = shards == number
            found[here] = self._maps[number][indices[here] - (self._ends[number] - len(self._maps[number]))]
        return found


def dtype_of(vocabulary_size: int) -> np.dtype[Any]:
    """The smallest type that ids of such a vocabulary fit in."""
    return np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")


def write_index(folder: Path, vocabulary_size: int, splits: dict[str, list[Shard]], **facts: object) -> None:
    """Write `index.json`, which makes a folder one of shards."""
    index = {"schema": SCHEMA, "vocabulary_size": vocabulary_size, "dtype": dtype_of(vocabulary_size).name}
    listed = {split: [asdict(shard) for shard in shards] for split, shards in splits.items()}
    write_json(folder / INDEX, index | facts | {"splits": listed})


def open_split(folder: Path, split: str) -> ShardedTokens:
    """Map one split of a folder of shards, every byte of it checked.

    Raises:
        CorruptModelError: the index or a file is missing or damaged; the message names it.
    """
    path = folder / INDEX
    index = read_json(path)
    try:
        if index["schema"] != SCHEMA:
            raise CorruptModelError(f"{path}: schema is {index['schema']}, and only {SCHEMA} is known here")
        shards = [Shard(**entry) for entry in index["splits"][split]]
        size = cast("int", index["vocabulary_size"])
        maps = [_map(folder / shard.file, shard, dtype_of(size)) for shard in shards]
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptModelError(f"{path} is no index of shards: {error}") from error
    return ShardedTokens(maps)


def _map(path: Path, shard: Shard, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        mapped: npt.NDArray[Any] = np.memmap(path, dtype, mode="r")
    except (FileNotFoundError, ValueError) as error:  # ValueError: it is empty, or ends within a token
        raise CorruptModelError(f"{path} is missing or cut off") from error
    digest = hashlib.sha256()
    data = memoryview(mapped.view(np.uint8))  # type: ignore[arg-type]  # arrays are buffers
    for start in range(0, len(data), _PIECE):
        digest.update(data[start : start + _PIECE])
    if len(mapped) != shard.tokens or digest.hexdigest() != shard.sha256:
        raise CorruptModelError(f"{path} has other bytes than {INDEX} says")
    return mapped
