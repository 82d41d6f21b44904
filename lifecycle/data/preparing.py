"""Prepare: from a source of text to a folder of token shards, in one pass over the source and bounded memory.

Every document is normalised, dropped if it repeats another, and put into a split; then the vocabulary is learned from
the training split, or taken from a model, and the documents become tokens. Nothing depends on the time, the machine
or the order in which a file system lists its files: the same source and settings make the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tokenizers import Tokenizer

from handler.errors import InvalidRequestError
from lifecycle.checkpoint import TOKENIZER, write_json
from lifecycle.data.duplicates import nothing_seen
from lifecycle.data.fingerprints import HELD_OUT, encode_fingerprints, fingerprint, fingerprint_bytes, normalised
from lifecycle.data.report import Report, SplitFigures
from lifecycle.data.shards import SPLITS, TRAINED_ON, Shard, ShardWriter, write_index
from lifecycle.data.sources import read_documents
from lifecycle.data.splits import Shares
from lifecycle.data.spool import Spool
from lifecycle.folders import check_free, complete_or_absent
from lifecycle.training.tokenizer import encode_documents, read_tokenizer, tokenizer_json, train_tokenizer

REPORT, DROPPED = "report.json", "dropped.jsonl"

_NEAR = 0.8  # resemblance from which on two documents are nearly alike


def prepare(
    source: str,
    out: Path,
    *,
    tokenizer: Path | None = None,
    vocabulary: int = 8192,
    shares: Shares | None = None,
    near: float = _NEAR,
    progress: Callable[[str], None] = lambda _doing: None,
) -> Report:
    """Make a folder of token shards; see `shards` for its form.

    Beside the shards it holds the held-out documents (`spool`), `report.json`, and `dropped.jsonl` with a line for
    every document that was dropped.

    Args:
        source: a file, a folder or `s3://BUCKET/PREFIX`; see `sources`.
        out: the folder to make; it must not exist or be empty.
        tokenizer: the checkpoint folder whose tokenizer is taken, or None to learn one.
        vocabulary: the tokens of one that is learned.
        shares: how much is held out.
        near: from which resemblance on, above 0 and at most 1, a document is dropped for another.
        progress: told what is being done.

    Raises:
        InvalidRequestError: the source, or a setting, is not usable, or a split would stay empty.
        RegistryError: S3 does not hand something out.
        OSError: the disk is full.
    """
    if not 0 < near <= 1:
        raise InvalidRequestError(f"near: must be above 0 and at most 1, got {near}", param="near")
    check_free(out)
    given = read_tokenizer(tokenizer / TOKENIZER) if tokenizer else None
    shares, report, held_out = shares or Shares(), Report(source), set[int]()
    with complete_or_absent(out) as new, Spool(new) as spool, (new / TRAINED_ON).open("wb") as trained_on:
        kept = dict.fromkeys(SPLITS, 0)
        for text, mark in _wanted(report, new, near, progress):
            split = shares.split_of(mark)
            kept[split] += 1
            spool.add(split, text)
            if split == "training":
                trained_on.write(fingerprint_bytes(mark))
            else:
                held_out.add(mark)
        _check_every_split(kept)
        progress("learning the vocabulary")
        chosen = given or train_tokenizer(spool.read("training"), vocabulary)
        splits = {}
        for split in SPLITS:
            progress(f"tokenizing the {split} split")
            splits[split] = _tokenize(new, spool, split, chosen, report.splits[split])
        spool.forget_training()
        data = (tokenizer / TOKENIZER).read_bytes() if tokenizer else tokenizer_json(chosen)
        (new / TOKENIZER).write_bytes(data)
        facts = {"tokenizer_sha256": hashlib.sha256(data).hexdigest(), HELD_OUT: encode_fingerprints(held_out)}
        write_index(new, chosen.get_vocab_size(), splits, **facts)
        write_json(new / REPORT, report.as_json())
    return report


def _wanted(report: Report, folder: Path, near: float, progress: Callable[[str], None]) -> Iterator[tuple[str, int]]:
    """The documents that are neither empty nor there before, normalised, each with its fingerprint."""
    with (
        (folder / DROPPED).open("w", encoding="utf-8") as dropped,
        nothing_seen(folder / "seen.sqlite", near) as seen,
    ):

        def drop(name: str, reason: str, **facts: object) -> None:
            report.dropped[reason] += 1
            dropped.write(json.dumps({"document": name, "reason": reason, **facts}, ensure_ascii=False) + "\n")

        for document in read_documents(report.source):
            report.read += 1
            if report.read % 100 == 0:
                progress(f"{report.read:,} documents read, {report.dropped.total():,} dropped")
            text = normalised(document.text)
            if not text:
                drop(document.name, "empty")
                continue
            mark = fingerprint(text)
            if same := seen.find_or_add(document.name, text, mark):
                drop(document.name, same.reason, of=same.of, resemblance=round(same.resemblance, 3))
                continue
            yield text, mark


def _check_every_split(kept: Mapping[str, int]) -> None:
    for split, count in kept.items():
        if not count:
            raise InvalidRequestError(
                f"{split}: none of the {sum(kept.values())} documents that were kept falls into this split; "
                "more documents, or another --validation and --test, are needed",
                param=split,
            )


def _tokenize(folder: Path, spool: Spool, split: str, tokenizer: Tokenizer, figures: SplitFigures) -> list[Shard]:
    with ShardWriter(folder, split, tokenizer.get_vocab_size()) as writer:
        for texts in spool.batches(split):
            for text, ids in zip(texts, encode_documents(tokenizer, texts), strict=True):
                writer.add(ids)
                figures.count(text, len(ids))
        return writer.finish()
