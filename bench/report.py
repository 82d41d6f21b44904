"""What was measured, collected over the rounds: medians, a table per setting, and lines of JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from rich.table import Table

Setting: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[str, tuple[tuple[str, Any], ...], str]


@dataclass(frozen=True, slots=True)
class Series:
    """The readings of one figure of one subject in one setting.

    Attributes:
        figure: what was measured.
        subject: on what.
        setting: how.
        unit: of the readings.
        readings: one per round.
    """

    figure: str
    subject: str
    setting: Setting
    unit: str
    readings: list[float] = field(default_factory=list)

    def as_json(self, machine: str) -> dict[str, Any]:
        """The line of the results."""
        return {
            "figure": self.figure,
            "subject": self.subject,
            "setting": dict(self.setting),
            "unit": self.unit,
            "median": round(median(self.readings), 3),
            "min": round(min(self.readings), 3),
            "max": round(max(self.readings), 3),
            "runs": len(self.readings),
            "machine": machine,
        }


class Report:
    """All series of a benchmark, in the order in which their first reading came."""

    def __init__(self) -> None:
        """Nothing has been measured."""
        self._series: dict[Key, Series] = {}

    def __iter__(self) -> Iterator[Series]:
        return iter(self._series.values())

    def add(self, figure: str, subject: str, setting: Setting, unit: str, reading: float) -> None:
        """Add a round's reading."""
        series = self._series.setdefault(_key(figure, subject, setting), Series(figure, subject, setting, unit))
        series.readings.append(reading)

    def settings(self) -> list[tuple[str, Setting, str]]:
        """The figures with their settings and units, each once."""
        found = {(series.figure, tuple(series.setting.items())): series for series in reversed(self._series.values())}
        return [(series.figure, series.setting, series.unit) for series in reversed(found.values())]

    def median(self, figure: str, subject: str, setting: Setting) -> float | None:
        """The median of a series, None if there is none."""
        series = self._series.get(_key(figure, subject, setting))
        return median(series.readings) if series else None

    def readings(self, figure: str, subject: str, setting: Setting) -> list[float]:
        """The readings of a series.

        Raises:
            KeyError: it was not measured.
        """
        return self._series[_key(figure, subject, setting)].readings

    def middle(self, figure: str, subject: str, setting: Setting) -> float:
        """The median of a series that must be there.

        Raises:
            KeyError: it was not measured.
        """
        return median(self.readings(figure, subject, setting))

    def write(self, path: Path, machine: str) -> None:
        """Write a line of JSON per series."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(series.as_json(machine)) + "\n" for series in self))

    def table(self, figure: str, setting: Setting, title: str, references: Mapping[str, float | None]) -> Table:
        """The subjects of one figure in one setting, each with its ratio to some references.

        Args:
            figure: the figure.
            setting: the setting.
            title: the table's.
            references: what the medians are divided by, by the columns' names; None where it was not measured.
        """
        table = Table(title=title, title_justify="left")
        table.add_column("subject")
        for column in ("median", "min", "max", *references):
            table.add_column(column, justify="right")
        for series in self:
            if (series.figure, series.setting) == (figure, setting):
                middle = median(series.readings)
                ratios = [f"{middle / reference:.2f}" if reference else "" for reference in references.values()]
                numbers = (middle, min(series.readings), max(series.readings))
                table.add_row(series.subject, *(f"{number:,.2f}" for number in numbers), *ratios)
        return table


def _key(figure: str, subject: str, setting: Setting) -> Key:
    return figure, tuple(setting.items()), subject
