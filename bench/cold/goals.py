"""What a cold start must reach, and whether it does: each goal as a bound, and the figure that is held against it."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from rich.table import Table

from bench.report import Report, Setting

MIB_PER_SECOND: Final = 75
MIB: Final = 2**20
AT_ONCE: Final = 20

Kind = Literal["at most", "at least"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound and what was reached.

    Attributes:
        name: what is bounded.
        kind: whether the figure may not be above the bound, or not below.
        bound: the bound.
        reached: the figure.
        unit: of both; "" for a ratio.
    """

    name: str
    kind: Kind
    bound: float
    reached: float
    unit: str

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps to the bound."""
        return self.reached <= self.bound if self.kind == "at most" else self.reached >= self.bound


def goals(report: Report) -> Iterator[Goal]:
    """Every goal, from the medians of a whole run; "over" stands for a ratio of two figures.

    Raises:
        KeyError: a figure was not measured.
    """
    warm, dropped = ({"cache": cache, "store": "unthrottled"} for cache in ("warm", "dropped"))
    throttled = {"cache": "warm", "store": f"{MIB_PER_SECOND}MiBps"}
    copy: Setting = {"store": "copy on the disk"}

    def first_token(setting: Setting) -> float:
        return report.middle("first_token", "us", setting)

    def baseline(cache: str) -> float:
        return report.middle("first_token", "baseline", {"cache": cache, "store": "local disk"})

    imports, megabytes = report.middle("imports", "us", warm), report.middle("bytes", "us", {})
    yield Goal("first token over the baseline's", "at most", 1 / 5, first_token(warm) / baseline("warm"), "")
    yield Goal("the same, page cache dropped", "at most", 1 / 6, first_token(dropped) / baseline("dropped"), "")
    yield Goal("first token, against the imports", "at most", 1.15 * (imports + 0.15), first_token(warm), "s")
    transfer = megabytes * 1e6 / (MIB_PER_SECOND * MIB)
    yield Goal(
        "first token at 75 MiB/s, against the transfer", "at most", 1.15 * transfer + 0.3, first_token(throttled), "s"
    )

    curl = report.middle("loader", "curl", {"hashing": "off"})
    unhashed, hashed = (report.middle("loader", "us", {"hashing": hashing}) for hashing in ("off", "on"))
    yield Goal("loader's speed over curl's, without hashing", "at least", 0.9, unhashed / curl, "")
    slowest = 1.15 * (megabytes / curl + report.middle("hashing", "sha256", {}))
    yield Goal("loader's time, against curl's and SHA-256's", "at most", slowest, megabytes / hashed, "s")

    yield Goal("first ranged read on the wire", "at most", 0.25, report.middle("first_request", "us", warm), "s")
    yield Goal("second process: bytes from S3", "at most", 0, max(report.readings("bytes_read", "us", copy)), "bytes")
    second = report.middle("imports", "us", copy) + 0.25
    yield Goal("second process: first token, against the imports", "at most", second, first_token(copy), "s")
    yield Goal("peak memory, against the weights", "at most", megabytes + 250, report.middle("peak", "us", warm), "MB")
    together = report.readings("at_once", "us", {"environments": AT_ONCE})
    yield Goal(
        f"{AT_ONCE} at once: the slowest, against their median", "at most", 3 * median(together), max(together), "s"
    )


def add_goals(report: Report) -> None:
    """Note the goals among the figures."""
    for goal in goals(report):
        setting = {"goal": goal.name, goal.kind: round(goal.bound, 3), "met": goal.is_met}
        report.add("goal", "us", setting, goal.unit, goal.reached)


def goals_table(report: Report) -> Table:
    """The goals, to be printed."""
    table = Table("goal", "bound", "reached", "", title="goals", title_justify="left")
    for goal in goals(report):
        bound, reached = f"{goal.kind} {goal.bound:,.3g} {goal.unit}", f"{goal.reached:,.3g} {goal.unit}"
        table.add_row(goal.name, bound, reached, "met" if goal.is_met else "missed")
    return table
