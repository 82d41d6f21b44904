"""Shards: what was written is read again, across files, and damage is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from handler.errors import CorruptModelError
from lifecycle.data.shards import SPLITS, ShardWriter, dtype_of, open_split, write_index

DOCUMENTS = [np.arange(start, start + length) for start, length in ((0, 7), (100, 1), (40, 30), (9, 4))]


def write(folder: Path, vocabulary_size: int = 300, shard_tokens: int = 10) -> None:
    splits = {}
    for split in SPLITS:
        with ShardWriter(folder, split, vocabulary_size, shard_tokens) as writer:
            for ids in DOCUMENTS if split == "training" else DOCUMENTS[:1]:
                writer.add(ids)
            splits[split] = writer.finish()
    write_index(folder, vocabulary_size, splits)


@pytest.mark.parametrize("vocabulary_size", [300, 65_536, 65_537])
def test_tokens_are_read_as_they_were_written(tmp_path: Path, vocabulary_size: int) -> None:
    write(tmp_path, vocabulary_size)
    whole = np.concatenate(DOCUMENTS)

    tokens = open_split(tmp_path, "training")

    assert sorted(path.name for path in tmp_path.glob("training-*.bin")) == [
        "training-00000.bin",  # a shard ends with the document that fills it
        "training-00001.bin",
    ]
    assert len(tokens) == len(whole) == 42
    assert np.array_equal(tokens.take(np.arange(42)), whole)
    windows = np.array([[36, 37, 38, 39], [0, 1, 2, 3]])  # the first lies across two files
    assert tokens.take(windows).dtype == np.int64
    assert np.array_equal(tokens.take(windows), whole[windows])
    size = dtype_of(vocabulary_size).itemsize
    assert size == (2 if vocabulary_size <= 65_536 else 4)
    assert sum(path.stat().st_size for path in tmp_path.glob("training-*.bin")) == 42 * size


def test_a_changed_token_is_found(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "training-00001.bin"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)

    with pytest.raises(CorruptModelError) as raised:
        open_split(tmp_path, "training")
    assert raised.value.message == f"{path} has other bytes than index.json says"


@pytest.mark.parametrize("left", [None, 0, 3])
def test_a_missing_or_shortened_file_is_named(tmp_path: Path, left: int | None) -> None:
    write(tmp_path)
    path = tmp_path / "test-00000.bin"
    data = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_bytes(data[:left])

    with pytest.raises(CorruptModelError) as raised:
        open_split(tmp_path, "test")
    assert raised.value.message == f"{path} is missing or cut off"


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptModelError, match=r"index\.json is missing"):
        open_split(tmp_path, "training")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "index.json: schema is 2, and only 1 is known here"),
        ({"splits": {}}, "index.json is no index of shards: 'training'"),
        ({"splits": {"training": [{"file": "x"}]}}, "index.json is no index of shards: "),
        ({"splits": []}, "index.json is no index of shards: "),
    ],
)
def test_an_index_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write(tmp_path)
    path = tmp_path / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    with pytest.raises(CorruptModelError) as raised:
        open_split(tmp_path, "training")
    assert message in raised.value.message
