"""The plan as one page: tables and drawings in a single file that asks nobody for anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from lifecycle.drawing import svg
from lifecycle.planning.plan import NAMES, sentences


def write_page(plan: Mapping[str, Any], path: Path) -> None:
    """Write the page of a plan."""
    environment = Environment(
        loader=PackageLoader("lifecycle.planning", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    drawings = (
        _costs(plan["curve"], plan["traffic"]["requests_a_day"], plan["crossings"][0]["requests_a_day"]),
        _latency(plan["targets"], "first_token", "seconds to the first token"),
        _latency(plan["targets"], "answer", "seconds to the whole answer"),
        _rates(plan["traffic"]["requests_a_second"]),
    )
    items = dict.fromkeys(item for found in plan["targets"].values() for item in found["dollars"])
    page = environment.get_template("page.html.jinja").render(
        plan=plan, names=NAMES, items=items, drawings=drawings, sentences=sentences(plan["crossings"])
    )
    path.write_text(page, encoding="utf-8")


def _costs(curve: Mapping[str, Any], now: float, crossings: Mapping[str, float | None]) -> Markup:
    """Dollars a month over requests a day, with the traffic that was asked for and where lines cross."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for target, dollars in curve["dollars_a_month"].items():
        axes.plot(curve["requests_a_day"], dollars, label=NAMES[target])
    axes.axvline(now, color="grey", linestyle=":", label="this traffic")
    for per_day in crossings.values():
        if per_day is not None:
            axes.axvline(per_day, color="black", linewidth=0.5)
    axes.set(xscale="log", yscale="log", xlabel="requests a day", ylabel="dollars a month")
    axes.legend()
    return svg(figure)


def _latency(targets: Mapping[str, Any], figure_name: str, label: str) -> Markup:
    """How many requests were that fast: what percentile, over seconds."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for target, found in targets.items():
        quantiles = found[f"{figure_name}_quantiles"]
        axes.plot(quantiles, range(len(quantiles)), label=NAMES[target])
    axes.set(xscale="log", xlabel=label, ylabel="percent of the answered requests", ylim=(0, 100))
    axes.legend()
    return svg(figure)


def _rates(rates: list[float]) -> Markup:
    """Requests a second, hour by hour."""
    figure = Figure(figsize=(6, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.stairs(rates, fill=True)
    axes.set(xlabel="hour", ylabel="requests a second", xlim=(0, len(rates)))
    return svg(figure)
