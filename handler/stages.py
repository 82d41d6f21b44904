"""How far a cold start has come, and when: seconds since the process was started, stage by stage."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

Stage: TypeAlias = Literal[
    "interpreter",  # Python runs, and the entry point's first line with it
    "first_range",  # the first ranged read is on its way to S3
    "first_byte",  # its answer begins
    "imports",  # the application is imported
    "transfer",  # the last byte of the model is here
    "verification",  # every chunk has been held against its SHA-256
    "ready",  # the model can be asked
    "first_token",  # and has answered
]

# It goes on while a machine (or a snapshot of it) sleeps, and process start times are given on it.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ColdStart:
    """Notes when each stage is reached for the first time; from any thread."""

    def __init__(self, started: float | None = None) -> None:
        """Begin.

        Args:
            started: when the process was started, on the clock of `boot_time()`; by default what Linux says.
        """
        self._started = process_start() if started is None else started
        self._stages: dict[str, float] = {}

    def reached(self, stage: Stage) -> bool:
        """Note that a stage is reached; False if it had been before."""
        if stage in self._stages:
            return False
        seconds = round(boot_time() - self._started, 3)
        return self._stages.setdefault(stage, seconds) is seconds  # of two threads, one is the first

    @property
    def stages(self) -> Mapping[str, float]:
        """Seconds from the start of the process to each stage reached so far."""
        return dict(self._stages)


def boot_time() -> float:
    """Seconds since the machine was started, the time it slept included."""
    return time.clock_gettime(_CLOCK)


def before_snapshot(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether SnapStart takes a snapshot of this process once it is initialised, or has taken it."""
    return environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"


def process_start(stat: Path = Path("/proc/self/stat")) -> float:
    """When a process was started, on the clock of `boot_time()`, to a hundredth of a second; now, if nobody says.

    It is the 22nd field of /proc/self/stat, in clock ticks (proc(5)); the second holds the program's name in
    parentheses, which may hold spaces.
    """
    try:
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return boot_time()


cold_start = ColdStart()
"""This process's."""
