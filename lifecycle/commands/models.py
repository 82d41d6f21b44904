"""`lifecycle import`, `quantize`, `publish` and `list`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Column, Table
from rich.text import Text
from typer import Argument, Option

from lifecycle.commands.bucket import Bucket, open_store

_COLUMNS = ("model", "version", "aliases", "created", "parameters", "type", "source")


class Bits(StrEnum):
    """Bits of a weight."""

    EIGHT = "8"
    FOUR = "4"


Name = Annotated[str, Option(help="Name of the model: lower-case letters, digits, and . _ -")]


def import_(
    source: Annotated[str, Argument(metavar="SRC", help="Hub name, or folder of a transformers checkpoint.")],
    *,
    out: Annotated[Path, Option(help="Checkpoint folder to make.")],
) -> None:
    """Import a checkpoint from the Hugging Face hub or from a folder.

    Only safetensors are read, and only the files that are needed are downloaded.
    """
    from lifecycle.importing import import_model  # noqa: PLC0415

    checkpoint = import_model(source, out)
    model = checkpoint.architecture
    Console().print(
        f"{out}: {checkpoint.provenance.source}, {model.parameters:,} parameters in {checkpoint.dtype},"
        f" {model.vocabulary_size:,} tokens, context of {model.context_length:,}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def quantize(
    folder: Annotated[Path, Argument(metavar="DIR", help="Checkpoint folder, as `import` and `train` make it.")],
    *,
    bits: Annotated[Bits, Option(help="Bits of a weight.")] = Bits.EIGHT,
    out: Annotated[Path, Option(help="Checkpoint folder to make.")],
    text: Annotated[
        Path | None,
        Option(help="Held-out text to measure on: a file, or a folder of *.txt. Without it, the model writes its own."),
    ] = None,
) -> None:
    """Pack a checkpoint's weights into 8 or 4 bits for the native engine, and measure what that costs."""
    from lifecycle.quantizing import quantize as run  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("comparing", total=None)
        checkpoint = run(folder, out, int(bits), text, lambda done, all_: bar.update(task, completed=done, total=all_))
    figures = checkpoint.provenance.evaluation["quantization"]
    columns = ("figure", Column("value", overflow="fold"))
    table = Table(*columns, title=f"{out}: {checkpoint.layout}", title_justify="left")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


def publish(
    folder: Annotated[
        Path, Argument(metavar="DIR", help="Checkpoint folder, as `import`, `train` and `quantize` make it.")
    ],
    *,
    name: Name,
    bucket: Bucket,
    max_perplexity_rise: Annotated[
        float | None,
        Option(
            help="How much quantizing may have raised the perplexity, 0.01 being 1 %. By default 0.01 for 8 bits,"
            " 0.05 for 4; any other limit is noted in the manifest."
        ),
    ] = None,
    sign_with: Annotated[
        str | None, Option(metavar="KEY_ARN", help="Asymmetric key of AWS KMS to sign the manifest with.")
    ] = None,
) -> None:
    """Publish a checkpoint folder as an immutable version, and print that version.

    The same content is the same version; publishing it again completes what was interrupted, and adds the evaluation
    that `evaluate` has left in the folder since.
    """
    from lifecycle.publishing import publish as run  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        # The folder may hold a little more than is published; a bar that ends just short of its end does no harm.
        total = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
        tasks: dict[str, TaskID] = {what: bars.add_task(what, total=total) for what in ("hash", "upload")}
        manifest = run(
            folder,
            open_store(bucket),
            name,
            lambda what, size: bars.advance(tasks[what], size),
            max_perplexity_rise=max_perplexity_rise,
            sign_with=sign_with,
        )
    print(manifest.version)  # noqa: T201 (the one word a script reads)


def list_(*, bucket: Bucket) -> None:
    """List every published version, and the aliases that point to it."""
    store = open_store(bucket)
    # However narrow the terminal, what is typed in again is on one line, and nothing but the source is cut off.
    columns = (Column(header, no_wrap=header in {"model", "version"}, overflow="fold") for header in _COLUMNS)
    table = Table(*columns)
    for name in store.models():
        aliases = store.aliases(name)
        manifests = sorted((store.manifest(name, v) for v in store.versions(name)), key=lambda m: m.created)
        for manifest in manifests:
            table.add_row(
                name,
                manifest.version,
                ", ".join(alias for alias, state in aliases.items() if state.version == manifest.version),
                manifest.created,
                f"{manifest.architecture.parameters:,}",
                manifest.layout or manifest.dtype,
                Text(manifest.source, no_wrap=True, overflow="ellipsis"),  # may be a list of books; the card has all
            )
    Console().print(table if table.row_count else f"{escape(bucket)} holds no published model")
