"""`train`: from a folder of books to a checkpoint folder, resuming where a killed run left off."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from handler.errors import InvalidRequestError
from lifecycle.checkpoint import Checkpoint, Provenance
from lifecycle.training.batches import Batches, Ids
from lifecycle.training.corpus import Book, hold_out, read_books
from lifecycle.training.curve import plot_curve, read_log
from lifecycle.training.evaluation import evaluate_book
from lifecycle.training.loop import LOG, fit
from lifecycle.training.model import load_tensors, new_model
from lifecycle.training.output import write_output
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.tokenizer import encode_documents, train_tokenizer

_VALIDATION_WINDOWS = 64  # windows of a periodic evaluation, spread evenly over the held-out books


def train(
    texts: Path, out: Path, settings: TrainingSettings, *, dtype: str = "float32", license_: str | None = None
) -> Checkpoint:
    """Train a tokenizer and a GPT-2 on all books but the held-out ones, and write the best weights as a checkpoint.

    The weights kept are those with the lowest loss on a sample of the held-out books. The state of the run lies in
    `out/run`: when it is there, the run resumes from it and continues exactly as if it had never stopped.

    Args:
        texts: a folder of plain-text books, one `*.txt` file each.
        out: the checkpoint folder to make.
        settings: what decides the outcome.
        dtype: how weights are stored, "float32" or "float16"; the figures are those of the stored weights.
        license_: the model's licence, recorded in the checkpoint.

    Returns:
        The checkpoint folder, checked.

    Raises:
        InvalidRequestError: texts or settings cannot be trained on, or `out` holds another run.
    """
    books = read_books(texts)
    training, held_out = hold_out(books, settings.hold_out)
    documents = [document for book in training for document in book.documents]
    tokenizer = train_tokenizer(documents, settings.vocabulary)
    tokens = np.concatenate(encode_documents(tokenizer, documents))
    batches = Batches(tokens, context=settings.context, batch_size=settings.batch_size, seed=settings.seed)
    validation = _validation_sample(tokenizer, held_out, settings.context)
    # Claimed only now: what was refused above leaves no folder that would refuse the next attempt.
    run = _claim(out / "run", settings, books)
    model = new_model(settings, end_of_text=int(tokens[0]))
    progress, best = fit(model, batches, validation, settings, run)
    load_tensors(model, {name: tensor.to(getattr(torch, dtype)).float() for name, tensor in best.items()})
    plot_curve(read_log(run / LOG), run / "curve.png")
    provenance = Provenance(
        source="lifecycle train on " + ", ".join(book.name for book in training),
        license=license_,
        derived_from=None,
        evaluation={book.name: evaluate_book(model, tokenizer, book).as_json() for book in held_out},
        training={
            **settings.as_json(),
            "training_tokens": len(tokens),
            "epochs": round(settings.steps / batches.per_epoch, 2),
            "best_step": progress.best_step,
            "seconds": round(progress.seconds),
        },
    )
    return write_output(out, model, tokenizer, dtype=dtype, provenance=provenance)


def _claim(run: Path, settings: TrainingSettings, books: Sequence[Book]) -> Path:
    """Make the run's folder, or make sure that the one there belongs to the same settings and texts."""
    digest = hashlib.sha256("\0".join(f"{book.name}\0{book.text}" for book in books).encode()).hexdigest()
    mine = {**settings.as_json(), "texts_sha256": digest}
    path = run / "settings.json"
    if not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(mine, indent=2) + "\n", encoding="utf-8")
    theirs = json.loads(path.read_text(encoding="utf-8"))
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise InvalidRequestError(
                f"out: {run} holds a run with other settings, so it cannot be resumed: "
                f"{name} was {theirs.get(name)!r} and is {value!r}",
                param="out",
            )
    return run


def _validation_sample(tokenizer: Tokenizer, books: Sequence[Book], context: int) -> Ids:
    """Windows spread evenly over the held-out books, (W, T + 1)."""
    documents = [document for book in books for document in book.documents]
    tokens = np.concatenate(encode_documents(tokenizer, documents))
    last = len(tokens) - context - 1
    if last < 0:
        raise InvalidRequestError(
            f"hold-out: one window takes {context + 1} tokens; the held-out books have {len(tokens)}", param="hold-out"
        )
    starts = np.linspace(0, last, min(_VALIDATION_WINDOWS, last // context + 1), dtype=np.int64)
    return np.take(tokens, starts[:, None] + np.arange(context + 1))
