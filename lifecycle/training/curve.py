"""The curve of a run: training and validation loss over steps, and the learning rate beneath them."""

import json
from pathlib import Path

from matplotlib.figure import Figure


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a run's log, oldest first; what a full disk or a kill has left of a last line is no line."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def plot_curve(log: list[dict[str, float]], path: Path) -> None:
    """Draw the log of a run into a PNG file."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for name in ("training", "validation"):
        key = f"{name}_loss"
        points = [(line["step"], line[key]) for line in log if key in line]
        losses.plot(*zip(*points, strict=True), label=name)
    losses.set_ylabel("loss, nats per token")
    losses.legend()
    losses.grid(visible=True, alpha=0.3)
    rates.plot(*zip(*[(line["step"], line["learning_rate"]) for line in log if "learning_rate" in line], strict=True))
    rates.set_xlabel("step")
    rates.set_ylabel("learning rate")
    rates.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=80)
