"""`make bench-engine`: tokens a second of our engines, the baseline program and peers, on the same random GPT-2.

Figures, all of two threads, greedy, nothing drafted:

- `decode`: new tokens a second of all sequences together, 128 behind prompts of 16, from tokens in to tokens out.
- `prefill`: prompt tokens a second, 512 in and 1 out.
- `agreement`: whether a subject runs this model at all: the share of sequences in which it chooses the token that the
  reference does. Random weights leave little between the best tokens, so that rounding to 4 bits often changes it.
- `bandwidth`: what two threads read from memory.
- `floor`: the `decode` that reading every weight and the keys and values once per step would allow at that bandwidth.

A peer that cannot be installed or fails is said so in one line, and the others are measured all the same.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import numpy as np
import typer
from rich.console import Console

from bench.catalogue import Entry, catalogue
from bench.environments import InstallError, python_of
from bench.report import Report, Setting
from bench.subject import Subject, SubjectError, Tokens
from bench.weights import PRINTABLE, layout_of, packed_checkpoint, random_checkpoint, step_bytes
from handler.inference.library import read_bandwidth
from lifecycle.machine import describe_machine

ROOT: Final = Path(__file__).parent.parent
CACHE: Final = ROOT / ".cache" / "bench"

THREADS: Final = 2
BATCHES: Final = (1, 8)
PROMPT, NEW, LONG_PROMPT = 16, 128, 512

# Whatever library a subject is made of, it takes its number of threads from one of these.
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Running: TypeAlias = dict[tuple[str, str], Subject]

console = Console(stderr=True, highlight=False, soft_wrap=True)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each subject is measured.")] = 7,
    subjects: Annotated[str, typer.Option(help="Only these, with commas between them; all unless given.")] = "",
    out: Annotated[Path, typer.Option(help="Where the lines of JSON go.")] = ROOT / "bench/results/engine.jsonl",
) -> None:
    """Measure, print and write the results."""
    chosen = set(subjects.split(",")) if subjects else {entry.name for entry in catalogue()}
    if unknown := chosen - {entry.name for entry in catalogue()}:
        raise typer.BadParameter(f"there is no subject {sorted(unknown)[0]!r}")
    report = Report()
    with ExitStack() as stack:
        running: Running = {}
        for entry in catalogue():
            if entry.name in chosen and (subject := start(entry)) is not None:
                running[entry.name, entry.isa] = stack.enter_context(subject)
        measure(running, report, rounds)
    report.write(out, describe_machine())
    show(report, Console())


def start(entry: Entry) -> Subject | None:
    """Install, convert and start what is not yet there; None, and a line on the console, where that cannot be done."""
    checkpoint = random_checkpoint(CACHE)
    environment = entry.environment
    folders = {
        "checkpoint": checkpoint,
        "workshop": CACHE / f"made-{environment.requirements if environment else 'ours'}",
        **{f"int{bits}": packed_checkpoint(checkpoint, layout_of(bits)) for bits in (8, 4)},
    }
    name = f"{entry.name} ({entry.isa})"
    console.print(f"starting {name}")
    variables = {**os.environ, **entry.variables, **dict.fromkeys(_THREAD_VARIABLES, str(THREADS))}
    try:
        python = ROOT / ".venv/bin/python"
        if environment is not None:
            requirements = ROOT / f"bench/peers/{environment.requirements}.txt"
            python = python_of(CACHE, environment.name, requirements, environment.variables)
        command = [
            str(python), "-m", f"bench.peers.{entry.program}", *(text.format(**folders) for text in entry.arguments)
        ]  # fmt: skip
        return Subject(command, variables, folder=ROOT, log=CACHE / f"{entry.name}-{entry.isa}.log")
    except (InstallError, SubjectError) as error:
        console.print(f"{name}: {error}", markup=False)
        return None


def measure(
    running: Running,
    report: Report,
    rounds: int,
    bandwidth: Callable[[int], float] = read_bandwidth,
) -> None:
    """Take every subject's figures in turn, round after round; one that fails is left out from then on."""
    random = np.random.default_rng(0)
    for number in range(rounds + 1):  # the first round warms up
        console.print(f"round {number} of {rounds}")
        kept = report if number else Report()
        measure_floor(kept, bandwidth(THREADS))
        asked = {batch: prompts(random, batch, PROMPT) for batch in BATCHES}
        long = prompts(random, 1, LONG_PROMPT)
        second: dict[tuple[str, str], list[int]] = {}
        for (name, isa), subject in list(running.items()):
            try:
                for batch in BATCHES:
                    answer = subject.generate(asked[batch], NEW)
                    kept.add("decode", name, decode_setting(batch, isa), "tok/s", batch * NEW / answer.seconds)
                second[name, isa] = [tokens[1] for tokens in answer.tokens]
                answer = subject.generate(long, 1)
                kept.add("prefill", name, prefill_setting(isa), "tok/s", LONG_PROMPT / answer.seconds)
            except SubjectError as error:
                console.print(f"{name} ({isa}): {error}", markup=False)
                subject.close()
                del running[name, isa]
        measure_agreement(kept, second)


def measure_agreement(report: Report, second: Mapping[tuple[str, str], list[int]]) -> None:
    """How often the second new token, the first that depends on the cache, is the one that the reference chose."""
    wanted = second.get(("reference", "native"))
    for (name, isa), tokens in second.items():
        if wanted:
            share = float(np.mean(np.equal(tokens, wanted)))
            report.add("agreement", name, decode_setting(BATCHES[-1], isa), "share of sequences", share)


def measure_floor(report: Report, gigabytes: float) -> None:
    """The bandwidth of this round, and the speed that it would allow."""
    report.add("bandwidth", "memory", {"threads": THREADS}, "GB/s", gigabytes)
    for batch in BATCHES:
        for bits in (8, 4):
            # The step that reads the prompt gives the first new token.
            moved = sum(step_bytes(layout_of(bits), batch, PROMPT + step) for step in range(NEW))
            speed = batch * NEW / (moved / (gigabytes * 1e9))
            report.add("floor", "memory", floor_setting(batch, bits), "tok/s", speed)


def prompts(random: np.random.Generator, count: int, length: int) -> Tokens:
    """New prompts in every round, so that nothing remembered of earlier ones helps."""
    return [[int(token) for token in random.integers(PRINTABLE, size=length)] for _ in range(count)]


def decode_setting(batch: int, isa: str) -> Setting:
    """The setting of a `decode`."""
    return {"batch": batch, "prompt": PROMPT, "new": NEW, "threads": THREADS, "isa": isa}


def prefill_setting(isa: str) -> Setting:
    """The setting of a `prefill`."""
    return {"batch": 1, "prompt": LONG_PROMPT, "new": 1, "threads": THREADS, "isa": isa}


def floor_setting(batch: int, bits: int) -> Setting:
    """The setting of a `floor`."""
    return {"weights": f"int{bits}", "batch": batch, "prompt": PROMPT, "new": NEW, "threads": THREADS}


def show(report: Report, screen: Console) -> None:
    """Print a table per figure and setting."""
    for figure, setting, unit in report.settings():
        references: dict[str, float | None] = {}
        if figure in {"decode", "prefill"}:
            references["x baseline"] = report.median(figure, "baseline", setting)
        if figure == "decode":
            for bits in (8, 4):
                floor = floor_setting(int(setting["batch"]), bits)
                references[f"x int{bits} floor"] = report.median("floor", "memory", floor)
        told = ", ".join(f"{name} {value}" for name, value in setting.items())
        screen.print(report.table(figure, setting, f"{figure}, {unit} ({told})", references))


if __name__ == "__main__":
    typer.run(main)
