"""Preparing a corpus: what becomes of every document, always the same, in little memory, and whole or not at all."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from handler.errors import CorruptModelError, InvalidRequestError
from lifecycle.checkpoint import read_json
from lifecycle.data.fingerprints import decode_fingerprints, fingerprint, read_fingerprints
from lifecycle.data.preparing import prepare
from lifecycle.data.shards import SPLITS, open_split
from lifecycle.data.splits import Shares
from tests.checkpoints import checkpoint
from tests.pages import pages, write_pages

SHARES = Shares(validation=0.2, test=0.2)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def documents_of(folder: Path, split: str) -> list[str]:
    """The documents of a split, back from its tokens."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = open_split(folder, split)
    ids = tokens.take(np.arange(len(tokens)))
    starts = np.flatnonzero(ids == tokenizer.token_to_id("<|endoftext|>"))
    assert starts[0] == 0
    return [tokenizer.decode(part[1:].tolist()) for part in np.split(ids, starts[1:])]


def test_every_document_is_in_its_split_or_told_of(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "source.jsonl", 60)
    kept = list(pages(60))
    words = kept[3].split()
    with source.open("a", encoding="utf-8") as file:
        for text in (kept[0].replace(" ", "\n"), " ".join([*words[:-2], "new", "end"]), " \n ", "Cafe\u0301 " * 9):
            file.write(json.dumps({"text": text}) + "\n")
    kept.append("Café " * 8 + "Café")

    report = prepare(str(source), tmp_path / "out", vocabulary=300, shares=SHARES)

    found = {split: documents_of(tmp_path / "out", split) for split in SPLITS}
    assert found == {split: [text for text in kept if SHARES.split_of(fingerprint(text)) == split] for split in SPLITS}
    assert lines(tmp_path / "out" / "dropped.jsonl") == [
        {"document": "source.jsonl#61", "reason": "exact duplicate", "of": "source.jsonl#1", "resemblance": 1.0},
        {
            "document": "source.jsonl#62",
            "reason": "near duplicate",
            "of": "source.jsonl#4",
            "resemblance": pytest.approx(0.966, abs=0.05),  # 114 of 118 runs of words
        },
        {"document": "source.jsonl#63", "reason": "empty"},
    ]
    assert report.as_json() == read_json(tmp_path / "out" / "report.json")
    assert report.as_json()["documents"] == 64
    assert report.as_json()["dropped"] == {"exact duplicate": 1, "near duplicate": 1, "empty": 1}
    for split in ("validation", "test"):
        assert [line["text"] for line in lines(tmp_path / "out" / f"{split}.jsonl")] == found[split]
    held_out = decode_fingerprints(read_json(tmp_path / "out" / "index.json")["held_out_documents"])
    assert held_out == {fingerprint(text) for split in ("validation", "test") for text in found[split]}
    trained_on = list(read_fingerprints(tmp_path / "out" / "training.fingerprints"))
    assert trained_on == [fingerprint(text) for text in found["training"]]


def test_the_figures_are_those_of_the_documents(tmp_path: Path) -> None:
    write_pages(tmp_path / "source.jsonl", 60)

    report = prepare(str(tmp_path), tmp_path / "out", vocabulary=300, shares=SHARES).as_json()

    for split, figures in report["splits"].items():
        texts, tokens = documents_of(tmp_path / "out", split), open_split(tmp_path / "out", split)
        lengths = sorted(np.diff([*np.flatnonzero(tokens.take(np.arange(len(tokens))) == 0), len(tokens)]).tolist())
        assert figures == {
            "documents": len(texts),
            "bytes": sum(len(text.encode()) for text in texts),
            "characters": sum(map(len, texts)),
            "words": 120 * len(texts),
            "tokens": len(tokens),
            "bytes_per_token": round(sum(map(len, texts)) / len(tokens), 3),
            "tokens_per_document": {
                "shortest": lengths[0],
                "median": lengths[(len(lengths) - 1) // 2],
                "longest tenth from": lengths[int((len(lengths) - 1) * 0.9)],
                "longest": lengths[-1],
            },
        }


def test_the_same_source_makes_the_same_bytes(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "source.jsonl", 40)
    for name in ("one", "two"):
        prepare(str(source), tmp_path / name, vocabulary=300, shares=SHARES)

    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == [
        "dropped.jsonl", "index.json", "report.json", "test-00000.bin", "test.jsonl", "tokenizer.json",
        "training-00000.bin", "training.fingerprints", "validation-00000.bin", "validation.jsonl",
    ]  # fmt: skip
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_a_document_has_its_split_in_whatever_company(tmp_path: Path) -> None:
    """Held out once is held out always: a larger corpus trains on nothing that the smaller one tested on."""
    for name, count in (("small", 40), ("large", 80)):
        prepare(str(write_pages(tmp_path / f"{name}.jsonl", count)), tmp_path / name, vocabulary=300, shares=SHARES)

    for split in SPLITS:
        assert set(documents_of(tmp_path / "small", split)) <= set(documents_of(tmp_path / "large", split))


def test_a_models_own_tokenizer_is_taken(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model").folder
    source = write_pages(tmp_path / "source.jsonl", 40)

    prepare(str(source), tmp_path / "out", tokenizer=model, shares=SHARES)

    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    assert len(documents_of(tmp_path / "out", "training")) + len(documents_of(tmp_path / "out", "test")) < 40


def test_a_larger_corpus_takes_no_more_memory(tmp_path: Path) -> None:
    """What Python and numpy hold is counted; on the disk there may be more."""
    peaks = []
    for count in (60, 240):
        source = write_pages(tmp_path / f"{count}.jsonl", count, words=1000)
        tracemalloc.start()
        prepare(str(source), tmp_path / str(count), vocabulary=300, shares=SHARES)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert (tmp_path / "240.jsonl").stat().st_size > 1_100_000
    assert peaks[1] < 1.1 * peaks[0] < 1_100_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near": 0}, "near: must be above 0 and at most 1, got 0"),
        ({"vocabulary": 256}, "vocabulary: must be at least 257, every byte and <|endoftext|>; got 256"),
        ({"shares": Shares(test=1e-9)}, "test: none of the 40 documents that were kept falls into this split; more"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    source = write_pages(tmp_path / "source.jsonl", 40)
    given = {"shares": SHARES, **settings}

    with pytest.raises(InvalidRequestError) as raised:
        prepare(str(source), tmp_path / "out", **given)  # type: ignore[arg-type]

    assert raised.value.message.startswith(message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.jsonl"]


@pytest.mark.parametrize(("name", "value"), [("validation", 0), ("test", 0.51)])
def test_shares_out_of_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        Shares(**{name: value})
    assert raised.value.message == f"{name}: must be above 0 and at most 0.5, got {value}"


def test_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()

    with pytest.raises(InvalidRequestError, match="exists and is not an empty folder"):
        prepare(str(write_pages(tmp_path / "source.jsonl", 9)), tmp_path / "out")


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptModelError) as raised:
        prepare(str(write_pages(tmp_path / "source.jsonl", 9)), tmp_path / "out", tokenizer=tmp_path)
    assert raised.value.message == f"{tmp_path / 'tokenizer.json'} is missing"
