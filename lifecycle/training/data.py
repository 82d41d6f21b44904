"""What a run learns from and what it is measured on: books read now, or token shards made before."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from handler.errors import InvalidRequestError
from lifecycle.checkpoint import TOKENIZER, read_json
from lifecycle.data.fingerprints import HELD_OUT, decode_fingerprints, fingerprint, read_fingerprints
from lifecycle.data.shards import INDEX, TRAINED_ON, open_split
from lifecycle.data.sources import read_documents
from lifecycle.training.base import Base
from lifecycle.training.batches import Ids, Tokens
from lifecycle.training.corpus import Book, hold_out, read_books
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.tokenizer import encode_documents, read_tokenizer, tokenizer_json, train_tokenizer

_VALIDATION_WINDOWS = 64  # windows of a periodic evaluation, spread evenly over what is held out


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Everything a run reads.

    Attributes:
        names: what it is called in a sentence.
        tokenizer: what made the tokens.
        tokenizer_json: the same as a file.
        training: the tokens to learn from.
        validation: windows to watch the loss on, (W, T + 1).
        held_out: whole texts to judge the result by.
        held_out_documents: fingerprints of all documents that are not learned from.
        sha256: of all texts, so that a run is resumed on the same ones.
    """

    names: str
    tokenizer: Tokenizer
    tokenizer_json: bytes
    training: Tokens
    validation: Ids
    held_out: Sequence[Book]
    held_out_documents: frozenset[int]
    sha256: str

    @property
    def end_of_text(self) -> int:
        """The token that every document begins with."""
        return int(self.training.take(np.zeros(1, np.int64))[0])


def read_data(texts: Path, settings: TrainingSettings, base: Base | None) -> TrainingData:
    """Read what to train on.

    Args:
        texts: a folder of books, or one of token shards.
        settings: the run's; of books, `hold_out` names those that are held out, while shards know theirs.
        base: the model to start from, whose tokenizer is used, or None.

    Raises:
        InvalidRequestError: there is nothing to train on, or it is what the model, or its base, is evaluated on.
        CorruptModelError: shards are damaged.
    """
    if (texts / INDEX).exists():
        data, trained_on = _read_shards(texts, settings, base)
    else:
        data, trained_on = _read_books(texts, settings, base)
    examined = {"this run holds out": data.held_out_documents}
    if base:
        examined[f"{base.checkpoint.folder} was evaluated on"] = base.held_out
    _refuse_examined(trained_on, examined)
    return data


def _read_books(texts: Path, settings: TrainingSettings, base: Base | None) -> tuple[TrainingData, Iterable[int]]:
    books = read_books(texts)
    training, held_out = hold_out(books, settings.hold_out)
    documents = [document for book in training for document in book.documents]
    unseen = [document for book in held_out for document in book.documents]
    if base:
        path = base.checkpoint.folder / TOKENIZER
        tokenizer, file = read_tokenizer(path), path.read_bytes()
    else:
        tokenizer = train_tokenizer(documents, settings.vocabulary)
        file = tokenizer_json(tokenizer)
    data = TrainingData(
        names=", ".join(book.name for book in training),
        tokenizer=tokenizer,
        tokenizer_json=file,
        training=np.concatenate(encode_documents(tokenizer, documents)),
        validation=_sample(np.concatenate(encode_documents(tokenizer, unseen)), settings.context),
        held_out=held_out,
        held_out_documents=frozenset(map(fingerprint, unseen)),
        sha256=hashlib.sha256("\0".join(f"{book.name}\0{book.text}" for book in books).encode()).hexdigest(),
    )
    return data, map(fingerprint, documents)


def _read_shards(folder: Path, settings: TrainingSettings, base: Base | None) -> tuple[TrainingData, Iterable[int]]:
    if settings.hold_out:
        raise InvalidRequestError(
            f"hold-out: {folder} holds token shards, which know what is held out", param="hold-out"
        )
    index, file = (folder / INDEX).read_bytes(), (folder / TOKENIZER).read_bytes()
    if base and (base.checkpoint.folder / TOKENIZER).read_bytes() != file:
        raise InvalidRequestError(
            f"texts: the shards in {folder} were made with another tokenizer than that of {base.checkpoint.folder}; "
            "`lifecycle prepare --tokenizer` takes a model's own",
            param="texts",
        )
    tokenizer = read_tokenizer(folder / TOKENIZER)
    if not base and tokenizer.get_vocab_size() != settings.vocabulary:
        raise InvalidRequestError(
            f"vocabulary: the shards in {folder} have {tokenizer.get_vocab_size()} tokens, got {settings.vocabulary}",
            param="vocabulary",
        )
    test = tuple(document.text for document in read_documents(str(folder / "test.jsonl")))
    data = TrainingData(
        names=folder.name,
        tokenizer=tokenizer,
        tokenizer_json=file,
        training=open_split(folder, "training"),
        validation=_sample(open_split(folder, "validation"), settings.context),
        held_out=(Book("test", test),),
        held_out_documents=decode_fingerprints(read_json(folder / INDEX).get(HELD_OUT)),
        sha256=hashlib.sha256(index).hexdigest(),
    )
    return data, read_fingerprints(folder / TRAINED_ON)


def _refuse_examined(trained_on: Iterable[int], examined: Mapping[str, frozenset[int]]) -> None:
    """Raise if a document to be learned from is one that a model is, or was, evaluated on."""
    seen = dict.fromkeys(examined, 0)
    for mark in trained_on:
        for whose, marks in examined.items():
            seen[whose] += mark in marks
    for whose, count in seen.items():
        if count:
            raise InvalidRequestError(
                f"texts: {count} of the documents to train on are among those that {whose}: whoever learns the "
                "answers cannot be examined",
                param="texts",
            )


def _sample(tokens: Tokens, context: int) -> Ids:
    """Windows spread evenly over the tokens, (W, T + 1)."""
    last = len(tokens) - context - 1
    if last < 0:
        raise InvalidRequestError(
            f"hold-out: one window takes {context + 1} tokens; the held-out texts have {len(tokens)}", param="hold-out"
        )
    starts = np.linspace(0, last, min(_VALIDATION_WINDOWS, last // context + 1), dtype=np.int64)
    return tokens.take(starts[:, None] + np.arange(context + 1))
