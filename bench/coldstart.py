"""`make bench-coldstart`: from the start of a process to its first token, beside the program of the tutorials.

Ours is the function under the real emulator and runtime client; GPT-2's 124 million random weights, in 8 and 4 bits,
lie in an S3 stand-in (nginx), which answers as fast as it can or through a proxy that lets 75 MiB/s through, about
what Lambda sustains. The others read theirs, in 32 bits, from the local disk. All take turns, with the page cache warm
and dropped. Figures: `first_token` and every stage before it, in seconds from the start of the process;
`first_request`, the same by the store's log; `peak` in MB; `loader` beside curl; starts from the copy on the disk;
`at_once`, twenty starts together; and every `goal` (see cold/goals.py) with its bound.
"""

import compileall
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from bench.cold.bucket import bucket_folder
from bench.cold.chart import draw
from bench.cold.checkpoints import quantized_model, random_model
from bench.cold.curl import curl_seconds, hash_seconds
from bench.cold.function import cold_start, environment
from bench.cold.goals import AT_ONCE, MIB_PER_SECOND, add_goals, goals_table
from bench.cold.store import Store, StoreError, serving, settled
from bench.cold.throttle import throttled
from bench.engine import CACHE, ROOT
from bench.report import Report, Setting
from handler.fetching import CACHE_FOLDER
from lifecycle.local.cloud import BUCKET
from lifecycle.machine import describe_machine

RESULTS: Final = ROOT / "bench/results/coldstart.jsonl"
CHART: Final = ROOT / "docs/coldstart.svg"

OURS: Final = {"us": "gpt2-int8", "us-int4": "gpt2-int4"}
THEIRS: Final = ("baseline", "from-pretrained")


def main(rounds: Annotated[int, typer.Option(help="Rounds to take medians of.")] = 10) -> None:
    """Measure, print and write."""
    console, report = Console(), Report()
    # As the image is: a process that had to compile its modules first would be measured for that.
    compileall.compile_dir(str(ROOT / "handler"), quiet=1)
    plain, models = random_model(CACHE), [quantized_model(CACHE, bits) for bits in (8, 4)]
    folder = bucket_folder(CACHE / "coldstart" / "bucket", *models)
    try:
        with serving(folder) as store, throttled(store.port, MIB_PER_SECOND) as slow:
            ports = {"unthrottled": store.port, f"{MIB_PER_SECOND}MiBps": slow}
            for number in range(rounds):
                console.print(f"round {number + 1} of {rounds}")
                for cache in ("warm", "dropped"):
                    measure_ours(report, store, ports, folder, cache)
                    measure_theirs(report, folder, plain, cache)
                measure_loader(report, store, folder)
                measure_second_process(report, store)
            measure_many(report, store)
        add_goals(report)
    except StoreError as error:
        raise SystemExit(str(error)) from error
    report.write(RESULTS, describe_machine())
    draw(RESULTS, CHART)
    show(report, console)


def measure_ours(report: Report, store: Store, ports: Mapping[str, int], bucket: Path, cache: str) -> None:
    """One start of each of our models from the store at each of its speeds."""
    for subject, model in OURS.items():
        for speed, port in ports.items():
            prepare(cache, bucket)
            store.clear()
            start = cold_start(environment(model, port))
            first = min(read.began for read in settled(store) if read.range)
            setting = {"cache": cache, "store": speed}
            add_stages(report, subject, setting, start.stages)
            report.add("first_request", subject, setting, "s", first - start.began)
            report.add("peak", subject, setting, "MB", start.peak)


def measure_theirs(report: Report, bucket: Path, plain: Path, cache: str) -> None:
    """One start of each of the others."""
    for subject in THEIRS:
        prepare(cache, bucket)
        command = [sys.executable, "-m", "bench.cold.tutorial", subject, str(plain)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        add_stages(report, subject, {"cache": cache, "store": "local disk"}, json.loads(done.stdout.splitlines()[-1]))


def prepare(cache: str, bucket: Path) -> None:
    """Drop the page cache if asked to; the store is another machine, so its own files stay in memory.

    Raises:
        PermissionError: only root may.
    """
    if cache == "dropped":
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
        for path in bucket.rglob("*"):
            if path.is_file():
                path.read_bytes()


def add_stages(report: Report, subject: str, setting: Setting, stages: Mapping[str, float]) -> None:
    """A figure for each stage, the last of which is the first token."""
    for stage, seconds in stages.items():
        report.add(stage, subject, setting, "s", seconds)


def measure_loader(report: Report, store: Store, folder: Path) -> None:
    """The loader alone, in a new process, beside curl and SHA-256."""
    (weights,) = folder.glob(f"{BUCKET}/models/gpt2-int8/versions/*/model.safetensors")
    load_seconds(store, "hashed")  # what the loader imports was dropped from the page cache a moment ago
    size = weights.stat().st_size
    report.add("bytes", "us", {}, "MB", size / 1e6)
    address = f"http://127.0.0.1:{store.port}/{weights.relative_to(folder)}"
    for kept in (False, True):
        subject = "curl, kept in memory" if kept else "curl"
        report.add("loader", subject, {"hashing": "off"}, "MB/s", size / 1e6 / curl_seconds(address, size, kept))
    report.add("hashing", "sha256", {}, "s", hash_seconds(weights))
    for hashing in ("unhashed", "hashed"):
        setting = {"hashing": "off" if hashing == "unhashed" else "on"}
        report.add("loader", "us", setting, "MB/s", size / 1e6 / load_seconds(store, hashing))


def load_seconds(store: Store, hashing: str) -> float:
    """The seconds the loader takes, "hashed" or "unhashed"."""
    command = [sys.executable, "-m", "bench.cold.loading", BUCKET, "gpt2-int8", hashing]
    variables = environment("gpt2-int8", store.port)
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, env=variables).stdout)


def measure_second_process(report: Report, store: Store) -> None:
    """A start, and another in the same environment, which must find the copy that the first one left."""
    with tempfile.TemporaryDirectory() as temporary:
        variables = environment("gpt2-int8", store.port, CACHE_MB="400", TMPDIR=temporary)
        cold_start(variables, until=lambda: any(Path(temporary).glob(f"{CACHE_FOLDER}/v*")))
        settled(store)
        store.clear()
        start = cold_start(variables)
        read = sum(entry.size for entry in settled(store))
    add_stages(report, "us", {"store": "copy on the disk"}, start.stages)
    report.add("bytes_read", "us", {"store": "copy on the disk"}, "bytes", read)


def measure_many(report: Report, store: Store) -> None:
    """Twenty environments that start at once from one store."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        starts = list(pool.map(lambda _: cold_start(environment("gpt2-int8", store.port)), range(AT_ONCE)))
    for start in starts:
        report.add("at_once", "us", {"environments": AT_ONCE}, "s", start.stages["first_token"])


def show(report: Report, console: Console) -> None:
    """Print the first tokens, how they stand to the baseline program's, and the goals."""
    for figure, setting, unit in report.settings():
        if figure in {"first_token", "loader", "peak", "at_once"}:
            told = ", ".join(f"{name} {value}" for name, value in setting.items())
            baseline = {"cache": setting.get("cache"), "store": "local disk"}
            references = {"x baseline": report.median(figure, "baseline", baseline)}
            console.print(report.table(figure, setting, f"{figure}, {unit} ({told})", references))
    console.print(goals_table(report))


if __name__ == "__main__":
    typer.run(main)
