"""`lifecycle train`: from texts, and perhaps a model, to a checkpoint folder that `lifecycle publish` takes."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from handler.errors import InvalidRequestError
from lifecycle.training.settings import TrainingSettings

if TYPE_CHECKING:
    from lifecycle.checkpoint import Checkpoint

_DEFAULT = TrainingSettings()
# A model that has learned already is only to be nudged; adapters begin as nothing and take more.
_RATE_TUNING, _RATE_ADAPTERS = 5e-5, 5e-4


# Tokens a model sees at once where it could see more than fits a machine: the context of a GPT-2.
_LONGEST = 1024


def _size(name: str, text: str) -> Any:
    return Option(help=text, show_default=str(getattr(_DEFAULT, name)))


class Precision(StrEnum):
    """In what matrices are multiplied while training."""

    BF16 = "bf16"
    FP32 = "fp32"


class StoredAs(StrEnum):
    """In what the finished weights are stored."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Device(StrEnum):
    """What is trained on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def train(
    texts: Annotated[
        Path, Argument(help="Folder of plain-text books, one *.txt file each, or one that `prepare` made.")
    ],
    *,
    out: Annotated[Path, Option(help="Checkpoint folder to make; a killed run is resumed from its run/ folder.")],
    from_: Annotated[
        str | None,
        Option("--from", metavar="DIR|NAME@ALIAS", help="Model to fine-tune: a checkpoint folder, or a published one."),
    ] = None,
    bucket: Annotated[str | None, Option(envvar="MODELS_BUCKET", help="S3 bucket of a published model.")] = None,
    lora_rank: Annotated[
        int, Option(help="Fine-tune adapters of this rank, which are added to the weights at the end; 0 tunes all.")
    ] = _DEFAULT.lora_rank,
    hold_out: Annotated[
        list[str] | None,
        Option(help="Book to evaluate on and never train on: its file's name without .txt. Repeatable."),
    ] = None,
    vocabulary: Annotated[
        int | None, _size("vocabulary", "Tokens of the byte-level BPE vocabulary; that of token shards.")
    ] = None,
    context: Annotated[
        int | None,
        _size("context", "Tokens the model sees at once; by default all that a --from model can, up to 1,024."),
    ] = None,
    width: Annotated[int | None, _size("width", "Size of the embedding; a multiple of the heads.")] = None,
    layers: Annotated[int | None, _size("layers", "Transformer blocks.")] = None,
    heads: Annotated[int | None, _size("heads", "Attention heads per block.")] = None,
    dropout: Annotated[float, Option(help="Probability of dropping an activation.")] = _DEFAULT.dropout,
    batch_size: Annotated[
        int, Option(help="Windows of `context` tokens per step, of all processes together.")
    ] = _DEFAULT.batch_size,
    micro_batch: Annotated[
        int, Option(help="Windows at once, where not all fit: their gradients add up. 0: a process's whole part.")
    ] = _DEFAULT.micro_batch,
    steps: Annotated[int, Option(help="Optimizer steps in the whole run.")] = _DEFAULT.steps,
    warmup: Annotated[int, Option(help="Steps over which the learning rate rises.")] = _DEFAULT.warmup,
    learning_rate: Annotated[
        float | None,
        Option(
            help=f"Peak: {_DEFAULT.learning_rate} from scratch, {_RATE_TUNING} tuned, {_RATE_ADAPTERS} with adapters.",
            show_default=False,
        ),
    ] = None,
    weight_decay: Annotated[float, Option(help="AdamW's weight decay, on matrices only.")] = _DEFAULT.weight_decay,
    clip: Annotated[
        float, Option(help="Largest norm of the gradient; a longer one is scaled down to it.")
    ] = _DEFAULT.clip,
    eval_every: Annotated[
        int, Option(help="Steps between evaluations; each also saves the state.")
    ] = _DEFAULT.eval_every,
    patience: Annotated[
        int, Option(help="Evaluations without a lower loss after which to stop early; 0: never.")
    ] = _DEFAULT.patience,
    precision: Annotated[Precision, Option(help="Precision of matrix products while training.")] = Precision.BF16,
    recompute: Annotated[
        bool, Option("--recompute", help="Compute activations anew on the way back: less memory, more time.")
    ] = _DEFAULT.recompute,
    seed: Annotated[int, Option(help="Decides initial weights, order of the texts and dropout.")] = _DEFAULT.seed,
    device: Annotated[Device, Option(help="What to train on; auto takes a GPU where there is one.")] = Device.AUTO,
    threads: Annotated[int, Option(min=0, help="Threads to train on; 0 takes every processor.")] = 0,
    state: Annotated[
        str | None, Option(metavar="s3://...", help="Where to keep the run's state as well, and resume it from.")
    ] = None,
    stored_as: Annotated[StoredAs, Option(help="How weights are stored; the figures are theirs.")] = StoredAs.FLOAT32,
    license_: Annotated[str | None, Option("--license", help="The model's licence, kept in provenance.json.")] = None,
) -> None:
    """Train a tokenizer and a GPT-2 from scratch, or fine-tune one that is there.

    Writes the weights with the lowest validation loss, and in run/ the log, its plot and the state to resume from.
    Several processes share the work when torchrun starts them: torchrun --nproc-per-node 2 -m lifecycle train ...
    """
    # Only here: importing torch takes longer than everything else the command line does.
    import torch  # noqa: PLC0415

    from lifecycle.published import checkpoint_folder  # noqa: PLC0415
    from lifecycle.training.trainer import train as run  # noqa: PLC0415

    if threads:
        torch.set_num_threads(threads)
    base = checkpoint_folder(from_, bucket) if from_ else None
    sizes = {"vocabulary": vocabulary, "context": context, "width": width, "layers": layers, "heads": heads}
    settings = TrainingSettings(
        **_decided(sizes, texts, base),
        hold_out=tuple(hold_out or ()),
        dropout=dropout,
        batch_size=batch_size,
        micro_batch=micro_batch,
        steps=steps,
        warmup=warmup,
        learning_rate=_usual_rate(base, lora_rank) if learning_rate is None else learning_rate,
        weight_decay=weight_decay,
        clip=clip,
        eval_every=eval_every,
        patience=patience,
        precision=precision.value,
        recompute=recompute,
        lora_rank=lora_rank,
        seed=seed,
    )
    checkpoint = run(
        texts, out, settings,
        base=base, dtype=stored_as.value, license_=license_, device=device.value, state=state,
    )  # fmt: skip
    if checkpoint:
        _show(checkpoint)


def _decided(sizes: Mapping[str, int | None], texts: Path, base: Path | None) -> dict[str, int]:
    """The sizes that were asked for, beside those that shards or a model to fine-tune bring with them."""
    from lifecycle.checkpoint import CONFIG, read_json  # noqa: PLC0415
    from lifecycle.data.shards import INDEX  # noqa: PLC0415

    given = {name: size for name, size in sizes.items() if size is not None}
    if base:
        for name in given.keys() - {"context"}:
            raise InvalidRequestError(f"{name}: the model named with --from decides it, got {given[name]}", param=name)
        config = read_json(base / CONFIG)
        context = config.get("n_positions", min(config.get("max_position_embeddings", _DEFAULT.context), _LONGEST))
        return {"context": int(context)} | given
    brought = {"vocabulary": int(read_json(texts / INDEX)["vocabulary_size"])} if (texts / INDEX).exists() else {}
    return brought | given


def _usual_rate(base: Path | None, lora_rank: int) -> float:
    if lora_rank:
        return _RATE_ADAPTERS
    return _RATE_TUNING if base else _DEFAULT.learning_rate


def _show(checkpoint: "Checkpoint") -> None:
    table = Table("held-out text", "per token", "per word", "bits per byte", title="Perplexity", title_justify="left")
    for text, figures in checkpoint.provenance.evaluation.items():
        shown = (figures["perplexity_per_token"], figures["perplexity_per_word"], figures["bits_per_byte"])
        table.add_row(text, *map(str, shown))
    Console().print(table)
