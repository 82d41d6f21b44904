"""Where a cold start's time goes, as bars: one a subject, cut into its stages."""

import json
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

# What passes until each stage is reached, in the order of a start.
STAGES: Final = {
    "interpreter": "interpreter",
    "imports": "imports",
    "transfer": "transfer",
    "verification": "verification",
    "ready": "model ready",
    "first_token": "first token",
}


def draw(results: Path, chart: Path) -> None:
    """Draw the medians of a warm page cache.

    Stages of a start overlap; a bar's piece is what a stage adds after those before it were reached.
    """
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    medians = {
        (f"{line['subject']}, {line['setting']['store']}", line["figure"]): line["median"]
        for line in lines
        if line["setting"].get("cache") == "warm"
    }
    bars = list(dict.fromkeys(bar for bar, _ in medians))[::-1]
    figure = Figure(figsize=(8, 0.6 * len(bars) + 1), layout="constrained")
    axes = figure.subplots()
    reached = dict.fromkeys(bars, 0.0)
    for stage, label in STAGES.items():
        ends = {bar: max(reached[bar], medians.get((bar, stage), 0.0)) for bar in bars}
        axes.barh(bars, [ends[bar] - reached[bar] for bar in bars], left=list(reached.values()), label=label)
        reached = ends
    axes.set_xlabel("seconds from the start of the process")
    figure.legend(loc="outside upper center", ncols=len(STAGES))
    chart.parent.mkdir(exist_ok=True)
    # Without a date, and with names that do not change: the same figures are the same file.
    figure.savefig(chart, metadata={"Date": None})
