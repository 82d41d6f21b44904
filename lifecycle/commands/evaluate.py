"""`lifecycle evaluate` and `compare`: how good a checkpoint is, and whether it is better than another."""

from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Column, Table
from typer import Argument, Option

_FIGURES = {
    "bits per byte": "bits_per_byte",
    "perplexity per word": "perplexity_per_word",
    "per token": "perplexity_per_token",
    "first choice right": "accuracy",
    "calibration error": "calibration_error",
}


def evaluate(
    folder: Annotated[Path, Argument(metavar="DIR", help="Checkpoint folder, packed or not.")],
    *,
    text: Annotated[
        list[Path], Option(help="Text the model has never seen: *.txt, *.jsonl, or a folder of some. Repeatable.")
    ],
    stride: Annotated[int, Option(help="Tokens by which the window slides; 0: half of the context.")] = 0,
    threads: Annotated[int, Option(min=0, help="Threads of the engine; 0 takes every processor.")] = 0,
) -> None:
    """Measure how well a checkpoint predicts texts, on the engine that serves it.

    Writes evaluation.json, which the registry asks for, and evaluation.html, a page with drawings and samples.
    """
    from lifecycle.evaluating.evaluate import PAGE  # noqa: PLC0415
    from lifecycle.evaluating.evaluate import evaluate as run  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} tokens"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading")
        report = run(
            folder,
            text,
            stride=stride,
            threads=threads,
            progress=lambda name, tokens: bar.update(task, description=name, advance=tokens),
        )
    table = Table(Column("text", no_wrap=True), *_FIGURES, title=f"{folder}: {report['version']}", title_justify="left")
    for name, figures in report["figures"].items():
        table.add_row(name, *(str(figures[figure]) for figure in _FIGURES.values()))
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(f"report: {folder / PAGE}", markup=False)


def compare(
    first: Annotated[Path, Argument(metavar="A", help="Checkpoint folder that was evaluated.")],
    second: Annotated[Path, Argument(metavar="B", help="Another one, evaluated on the same texts.")],
) -> None:
    """Tell whether B predicts better than A, and how certain that is.

    Both have read the same documents; the interval of the difference is that of 10,000 draws of documents.
    """
    from lifecycle.evaluating.bootstrap import FEW, compare_evaluations  # noqa: PLC0415

    differences = compare_evaluations(first, second)
    columns = (Column("text", no_wrap=True), "documents", "A", "B", "B - A", "95 % of draws", "B is")
    table = Table(*columns, title="Bits per byte", title_justify="left")
    for name, found in differences.items():
        verdict = ("better" if found.after < found.before else "worse") if found.is_certain else "not told apart"
        interval = f"{found.low:+.4f} to {found.high:+.4f}"
        figures = (f"{found.before:.4f}", f"{found.after:.4f}", f"{found.after - found.before:+.4f}", interval)
        table.add_row(name, str(found.documents), *figures, verdict)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    if any(found.documents < FEW for found in differences.values()):
        console.print(f"Fewer than {FEW} documents: the interval is narrower than it ought to be.")
