"""How many threads an engine should run: as many as there are processors it may use.

More threads than processors wait for each other at every layer, so the number of visible processors is not enough:
a control group may grant less time than they offer, and Lambda grants it in proportion to memory.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html: "at 1,769 MB, a function has the equivalent
# of one vCPU".
LAMBDA_MB_PER_PROCESSOR: Final = 1769

CGROUP: Final = Path("/sys/fs/cgroup")


def available_processors(environment: Mapping[str, str] = os.environ, cgroup: Path = CGROUP) -> int:
    """The processors this process may keep busy, at least 1.

    Args:
        environment: where Lambda says how much memory the function has.
        cgroup: where the control group of the process is mounted (version 2, or version 1 with its `cpu` folder).
    """
    visible = len(os.sched_getaffinity(0))
    memory = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    granted = int(memory) / LAMBDA_MB_PER_PROCESSOR if memory.isdecimal() else _cgroup_quota(cgroup)
    return min(visible, max(1, round(granted))) if granted is not None else visible


def _cgroup_quota(cgroup: Path) -> float | None:
    """The processors a control group grants, or None where it sets no bound.

    Version 2 holds "quota period" in one file, with "max" for no bound; version 1 holds each in its own, with -1.
    """
    files = [cgroup / "cpu.max"]
    if not files[0].exists():
        files = [cgroup / "cpu" / "cpu.cfs_quota_us", cgroup / "cpu" / "cpu.cfs_period_us"]
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
    except (OSError, ValueError):
        return None
    return int(quota) / int(period) if quota.isdecimal() else None
