"""`train`: from a folder of books to a checkpoint folder, resuming where a killed run left off."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from handler.errors import InvalidRequestError
from lifecycle.training.batches import Batches, Ids
from lifecycle.training.corpus import Book, hold_out, read_books
from lifecycle.training.curve import plot_curve, read_log
from lifecycle.training.evaluation import evaluate_book, total_loss
from lifecycle.training.model import load_tensors, named_tensors, new_model, new_optimizer, next_token_loss
from lifecycle.training.output import write_output
from lifecycle.training.schedule import learning_rate
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.state import Progress, load_state, save_state
from lifecycle.training.tokenizer import encode_documents, train_tokenizer

_LOG_EVERY = 10  # steps whose mean training loss makes one line of the log
_VALIDATION_WINDOWS = 64  # windows of a periodic evaluation, spread evenly over the held-out books


def train(
    texts: Path, out: Path, settings: TrainingSettings, *, dtype: str = "float32", license_: str | None = None
) -> None:
    """Train a tokenizer and a GPT-2 on all books but the held-out ones, and write the best weights as a checkpoint.

    The weights kept are those with the lowest loss on a sample of the held-out books. The state of the run lies in
    `out/run`: when it is there, the run resumes from it and continues exactly as if it had never stopped.

    Args:
        texts: a folder of plain-text books, one `*.txt` file each.
        out: the checkpoint folder to make.
        settings: what decides the outcome.
        dtype: how weights are stored, "float32" or "float16"; the figures are those of the stored weights.
        license_: the model's licence, recorded in the checkpoint.

    Raises:
        InvalidRequestError: texts or settings cannot be trained on, or `out` holds another run.
    """
    books = read_books(texts)
    training, held_out = hold_out(books, settings.hold_out)
    run = out / "run"
    _claim(run, settings, books)
    documents = [document for book in training for document in book.documents]
    tokenizer = train_tokenizer(documents, settings.vocabulary)
    tokens = np.concatenate(encode_documents(tokenizer, documents))
    model = new_model(settings, end_of_text=int(tokens[0]))
    batches = Batches(tokens, context=settings.context, batch_size=settings.batch_size, seed=settings.seed)
    progress, best = _fit(model, batches, _validation_sample(tokenizer, held_out, settings.context), settings, run)
    load_tensors(model, {name: tensor.to(getattr(torch, dtype)).float() for name, tensor in best.items()})
    plot_curve(read_log(run / "log.jsonl"), run / "curve.png")
    write_output(
        out,
        model,
        tokenizer,
        dtype=dtype,
        provenance={
            "source": "lifecycle train on " + ", ".join(book.name for book in training),
            "license": license_,
            "derived_from": None,
            "evaluation": {book.name: evaluate_book(model, tokenizer, book).as_json() for book in held_out},
            "training": {
                **settings.as_json(),
                "training_tokens": len(tokens),
                "epochs": round(settings.steps / batches.per_epoch, 2),
                "best_step": progress.best_step,
                "seconds": round(progress.seconds),
            },
        },
    )


def _claim(run: Path, settings: TrainingSettings, books: list[Book]) -> None:
    """Make the run's folder, or make sure that the one there belongs to the same settings and texts."""
    digest = hashlib.sha256("\0".join(f"{book.name}\0{book.text}" for book in books).encode()).hexdigest()
    mine = {**settings.as_json(), "texts_sha256": digest}
    path = run / "settings.json"
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        if differing := [name for name in mine if theirs.get(name) != mine[name]]:
            name = differing[0]
            raise InvalidRequestError(
                f"out: {run} holds a run with other settings, so it cannot be resumed: "
                f"{name} was {theirs.get(name)!r} and is {mine[name]!r}",
                param="out",
            )
    else:
        run.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(mine, indent=2) + "\n", encoding="utf-8")


def _validation_sample(tokenizer: Tokenizer, books: list[Book], context: int) -> Ids:
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


def _fit(
    model: GPT2LMHeadModel, batches: Batches, validation: Ids, settings: TrainingSettings, run: Path
) -> tuple[Progress, dict[str, Tensor]]:
    """Take the steps that are left; returns where the run ended and the weights of the best evaluation."""
    optimizer = new_optimizer(model, settings.weight_decay)
    progress, best = Progress(), named_tensors(model)
    state, log_path = run / "state.safetensors", run / "log.jsonl"
    if state.exists():
        progress, best = load_state(state, model, optimizer)
    _truncate_log(log_path, progress.step)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns) as bar, log_path.open("a", encoding="utf-8", buffering=1) as log:
        task = bar.add_task("training", total=settings.steps, completed=progress.step)
        before, losses, started = progress.seconds, [], time.monotonic()
        while progress.step < settings.steps:
            loss, norm, rate = _step(model, optimizer, batches, settings, progress.step)
            losses.append(loss)
            progress.step += 1
            progress.seconds = before + time.monotonic() - started
            evaluating = progress.step % settings.eval_every == 0 or progress.step == settings.steps
            if progress.step % _LOG_EVERY == 0 or evaluating:
                line = {"step": progress.step, "training_loss": sum(losses) / len(losses)}
                line |= {"learning_rate": rate, "gradient_norm": norm}
                losses = []
                if evaluating:
                    line["validation_loss"] = (
                        total_loss(model, validation[:, :-1], validation[:, 1:]) / validation[:, 1:].size
                    )
                    if line["validation_loss"] < progress.best_loss:
                        progress.best_step, progress.best_loss = progress.step, line["validation_loss"]
                        best = named_tensors(model)
                    save_state(state, model, optimizer, progress, best)
                log.write(json.dumps(line) + "\n")
                bar.update(
                    task, description=f"loss {line['training_loss']:.3f}, best validation {progress.best_loss:.3f}"
                )
            bar.update(task, completed=progress.step)
    return progress, best


def _step(
    model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, batches: Batches, settings: TrainingSettings, step: int
) -> tuple[float, float, float]:
    """Take one step; returns the batch's loss, the norm of its gradient before clipping and the learning rate."""
    rate = learning_rate(step, peak=settings.learning_rate, warmup=settings.warmup, steps=settings.steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    # Dropout drawn anew from seed and step: the state of the generator need not be saved.
    torch.manual_seed(int(np.random.SeedSequence((settings.seed, step)).generate_state(1)[0]))
    model.train()
    batch = torch.from_numpy(batches.at(step))
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        loss = next_token_loss(model, batch[:, :-1], batch[:, 1:])
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip, error_if_nonfinite=True)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item(), norm.item(), rate


def _truncate_log(path: Path, step: int) -> None:
    """Drop what was logged after the saved state: those steps are about to be taken again."""
    if path.exists():
        kept = [line for line in read_log(path) if line["step"] <= step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
