"""curl with parallel ranges of one object, and SHA-256 on all processors: what a loader's time is held against."""

import hashlib
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

PARALLEL: Final = 4


def curl_seconds(address: str, size: int, kept: bool) -> float:
    """The seconds one curl takes to read an object of `size` bytes in four ranges at once.

    Args:
        address: the object's.
        size: its bytes.
        kept: whether they are kept in memory (a file of /dev/shm), as a loader has to, or thrown away.
    """
    step = -(-size // PARALLEL)
    command = ["curl", "--no-progress-meter", "--parallel", "--parallel-immediate", "--parallel-max", str(PARALLEL)]
    for i in range(PARALLEL):
        reach = f"{i * step}-{min(size, (i + 1) * step) - 1}"
        out = f"/dev/shm/bench-curl-{i}" if kept else os.devnull  # noqa: S108
        command += ["--next"] * bool(i) + ["--no-progress-meter", "--range", reach, "--output", out, address]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    for path in Path("/dev/shm").glob("bench-curl-*"):  # noqa: S108
        path.unlink()
    return seconds


def hash_seconds(path: Path) -> float:
    """The seconds SHA-256 of a file takes in pieces, on all processors, once it is in memory."""
    data = memoryview(path.read_bytes())
    step = 8 * 1024 * 1024
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        started = time.perf_counter()
        list(pool.map(lambda piece: hashlib.sha256(piece).digest(), pieces))
        return time.perf_counter() - started
