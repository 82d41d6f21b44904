"""`lifecycle train`: from a folder of plain-text books to a checkpoint folder that `lifecycle publish` takes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from lifecycle.training.settings import TrainingSettings

_DEFAULT = TrainingSettings(hold_out=())


class Precision(StrEnum):
    """In what matrices are multiplied while training."""

    BF16 = "bf16"
    FP32 = "fp32"


class StoredAs(StrEnum):
    """In what the finished weights are stored."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


def train(
    texts: Annotated[Path, Argument(help="Folder of plain-text books, one *.txt file each.")],
    *,
    out: Annotated[Path, Option(help="Checkpoint folder to make; a killed run is resumed from its run/ folder.")],
    hold_out: Annotated[
        list[str], Option(help="Book to evaluate on and never train on: its file's name without .txt. Repeatable.")
    ],
    vocabulary: Annotated[int, Option(help="Tokens of the byte-level BPE vocabulary.")] = _DEFAULT.vocabulary,
    context: Annotated[int, Option(help="Tokens the model sees at once.")] = _DEFAULT.context,
    width: Annotated[int, Option(help="Size of the embedding; a multiple of the heads.")] = _DEFAULT.width,
    layers: Annotated[int, Option(help="Transformer blocks.")] = _DEFAULT.layers,
    heads: Annotated[int, Option(help="Attention heads per block.")] = _DEFAULT.heads,
    dropout: Annotated[float, Option(help="Probability of dropping an activation.")] = _DEFAULT.dropout,
    batch_size: Annotated[int, Option(help="Windows of `context` tokens per step.")] = _DEFAULT.batch_size,
    steps: Annotated[int, Option(help="Optimizer steps in the whole run.")] = _DEFAULT.steps,
    warmup: Annotated[int, Option(help="Steps over which the learning rate rises.")] = _DEFAULT.warmup,
    learning_rate: Annotated[float, Option(help="Peak learning rate.")] = _DEFAULT.learning_rate,
    weight_decay: Annotated[float, Option(help="AdamW's weight decay, on matrices only.")] = _DEFAULT.weight_decay,
    clip: Annotated[
        float, Option(help="Largest norm of the gradient; a longer one is scaled down to it.")
    ] = _DEFAULT.clip,
    eval_every: Annotated[
        int, Option(help="Steps between evaluations; each also saves the state.")
    ] = _DEFAULT.eval_every,
    precision: Annotated[Precision, Option(help="Precision of matrix products while training.")] = Precision.BF16,
    seed: Annotated[int, Option(help="Decides initial weights, order of the texts and dropout.")] = _DEFAULT.seed,
    threads: Annotated[int, Option(min=0, help="Threads to train on; 0 takes every processor.")] = 0,
    stored_as: Annotated[StoredAs, Option(help="How weights are stored; the figures are theirs.")] = StoredAs.FLOAT32,
    license_: Annotated[str | None, Option("--license", help="The model's licence, kept in provenance.json.")] = None,
) -> None:
    """Train a tokenizer and a GPT-2 from scratch on a folder of books.

    Writes the weights with the lowest validation loss, and in run/ the log, its plot and the state to resume from.
    """
    # Only here: importing torch takes longer than everything else the command line does.
    import torch  # noqa: PLC0415

    from lifecycle.training.trainer import train as run  # noqa: PLC0415

    if threads:
        torch.set_num_threads(threads)
    settings = TrainingSettings(
        hold_out=tuple(hold_out),
        vocabulary=vocabulary,
        context=context,
        width=width,
        layers=layers,
        heads=heads,
        dropout=dropout,
        batch_size=batch_size,
        steps=steps,
        warmup=warmup,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        clip=clip,
        eval_every=eval_every,
        precision=precision.value,
        seed=seed,
    )
    checkpoint = run(texts, out, settings, dtype=stored_as.value, license_=license_)
    table = Table("held-out book", "per token", "per word", "bits per byte", title="Perplexity", title_justify="left")
    for book, figures in checkpoint.provenance.evaluation.items():
        shown = (figures["perplexity_per_token"], figures["perplexity_per_word"], figures["bits_per_byte"])
        table.add_row(book, *map(str, shown))
    Console().print(table)
