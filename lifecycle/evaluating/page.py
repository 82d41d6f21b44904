"""The report as one page: tables, drawings and samples in a single file that asks nobody for anything."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from lifecycle.drawing import plain, svg


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """Write the page of an evaluation."""
    environment = Environment(
        loader=PackageLoader("lifecycle.evaluating", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    drawings = {"calibration": _calibration(report["calibration"]), "documents": _documents(report["documents"])}
    page = environment.get_template("page.html.jinja").render(report=report, drawings=drawings)
    path.write_text(page, encoding="utf-8")


def _calibration(texts: Mapping[str, Any]) -> Markup:
    """How often the model was right, over how sure it was."""
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="as sure as right")
    for name, bins in texts.items():
        axes.plot(
            [b["confidence"] for b in bins], [b["accuracy"] for b in bins], marker="o", markersize=3, label=plain(name)
        )
    axes.set(xlabel="probability of the first choice", ylabel="share that came", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    return svg(figure)


def _documents(texts: Mapping[str, Any]) -> Markup:
    """Bits per byte of every document, the easiest first."""
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    for name, documents in texts.items():
        bits = sorted(one["nats"] / one["bytes"] / math.log(2) for one in documents)
        axes.plot([(rank + 0.5) / len(bits) for rank in range(len(bits))], bits, marker=".", label=plain(name))
    axes.set(xlabel="share of the documents", ylabel="bits per byte", xlim=(0, 1))
    axes.legend()
    return svg(figure)
