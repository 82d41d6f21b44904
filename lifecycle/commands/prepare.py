"""`lifecycle prepare`: from text to token shards."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from typer import Argument, Option

if TYPE_CHECKING:
    from lifecycle.data.report import Report


def prepare(
    source: Annotated[
        str,
        Argument(
            metavar="SRC", help="Folder of *.txt and *.jsonl (field `text`), one such file, or s3://BUCKET/PREFIX."
        ),
    ],
    *,
    out: Annotated[Path, Option(help="Folder of token shards to make.")],
    tokenizer: Annotated[
        Path | None, Option(help="Checkpoint folder whose tokenizer to use; without it, one is learned.")
    ] = None,
    vocabulary: Annotated[int, Option(help="Tokens of a vocabulary that is learned.")] = 8192,
    validation: Annotated[float, Option(help="Share of the documents that watches over training.")] = 0.05,
    test: Annotated[float, Option(help="Share of the documents that judges the result.")] = 0.05,
    near: Annotated[float, Option(help="Resemblance from which on two documents are duplicates.")] = 0.8,
) -> None:
    """Turn text into token shards: normalised, without duplicates, split by document.

    Nothing but one document is held in memory, and the same source always makes the same shards. report.json and
    dropped.jsonl tell what there is, and what was dropped and why; validation.jsonl and test.jsonl hold the documents
    that are never trained on.
    """
    from lifecycle.data.preparing import prepare as run  # noqa: PLC0415
    from lifecycle.data.splits import Shares  # noqa: PLC0415

    with Console(stderr=True).status("reading") as status:
        report = run(
            source,
            out,
            tokenizer=tokenizer,
            vocabulary=vocabulary,
            shares=Shares(validation, test),
            near=near,
            progress=status.update,
        )
    _show(report, out)


def _show(report: "Report", out: Path) -> None:
    splits = {name: figures.as_json() for name, figures in report.splits.items()}
    table = Table("", *splits, title=f"{out}: {report.read:,} documents read", title_justify="left")
    for figure in ("documents", "words", "bytes", "tokens"):
        table.add_row(figure, *(f"{figures[figure]:,}" for figures in splits.values()))
    for quantile in splits["training"]["tokens_per_document"]:
        values = (figures["tokens_per_document"][quantile] for figures in splits.values())
        table.add_row(f"tokens, {quantile}", *(f"{value:,}" for value in values))
    console = Console(soft_wrap=True)
    console.print(table)
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.dropped.items()))
    console.print(f"dropped: {dropped or 'nothing'}", highlight=False)
