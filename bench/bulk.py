"""`make bench-bulk`: prompts a second through the whole path, from an event to results in S3, beside one at a time.

The function runs as on Lambda (awslambdaric under the emulator), with GPT-2's 124 million random weights in 8 bits, and
an embedded S3. Subjects, each asked for 128 tokens behind prompts of 16, greedy and sampled:

- `one at a time`: direct invocations, one prompt each.
- `queue`: an SQS event of ten messages, each with a result of its own.
- `bulk`: a range of a bulk run, of 48 lines.
- `engine`: batch 8 of `bench/engine.py`, tokens in and tokens out; no sampling, no text, no S3.

Figures: `prompts` a second; `share`, the milliseconds of the whole that fall on each token; and `step`, of the queue
and the engine, the milliseconds by which each token more prolongs the whole, from 16 to 128. The queue is to take at
most 1.3 times as long a step as the engine does, though it decodes ten and not eight. What comes once an event, such as
S3, whose stand-in computes on the same processors, is in its `share` and not in its `step`.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import numpy as np
import typer
from rich.console import Console

from bench.catalogue import catalogue
from bench.cold.checkpoints import quantized_model
from bench.engine import CACHE, NEW, PROMPT, ROOT, prompts, start
from bench.report import Report, Setting
from bench.subject import Subject
from handler.registry.s3 import s3_client
from handler.work.answering import TOGETHER as LINES_TOGETHER
from handler.work.bulk.runs import INPUTS
from lifecycle.local.cloud import RESULTS_BUCKET, embedded_cloud
from lifecycle.local.invoke import emulated_function, invoke
from lifecycle.machine import describe_machine
from lifecycle.promoting import LIVE, promote
from lifecycle.publishing import publish

FEW: Final = 16  # tokens, from which on a step is measured
TOGETHER: Final = 10  # the queue's batch size in template.yaml
LINES: Final = 48
ALONE: Final = 4  # prompts that are asked for one at a time
ENGINE_BATCH: Final = 8
BOUND: Final = 1.3

SAMPLING: Final = {"greedy": {"temperature": 0}, "sampled": {"temperature": 1}}

# A line a request would be told on the console, and is not what is measured.
QUIET: Final = {"POWERTOOLS_LOG_LEVEL": "WARNING", "AUTH_MODE": "iam"}

Send: TypeAlias = Callable[[dict[str, Any]], Any]


class BenchmarkError(Exception):
    """The function has not answered as it should."""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each subject is measured.")] = 5,
    out: Annotated[Path, typer.Option(help="Where the lines of JSON go.")] = ROOT / "bench/results/bulk.jsonl",
) -> None:
    """Measure, print and write the results."""
    console = Console(stderr=True)
    engine = start(next(entry for entry in catalogue() if (entry.name, entry.isa) == ("native-int8", "native")))
    if engine is None:
        raise typer.Exit(1)
    report, model = Report(), quantized_model(CACHE, 8)
    with engine, embedded_cloud() as cloud:
        manifest = publish(model, cloud.store, model.name)
        promote(cloud.store, manifest.name, manifest.version, LIVE, why="a benchmark", force=True)
        with emulated_function({**cloud.environment(model.name), **QUIET}) as address:
            measure(engine, partial(ask, address), report, rounds, console)
    report.write(out, describe_machine())
    show(report, Console())


def ask(address: str, event: dict[str, Any]) -> Any:
    """Send an event, and return what the function answers."""
    answer = json.loads(invoke(address, json.dumps(event).encode()))
    if "errorType" in answer:
        raise BenchmarkError(f"{answer['errorType']}: {answer['errorMessage']}")
    return answer


def measure(engine: Subject, send: Send, report: Report, rounds: int, console: Console) -> None:
    """Take every subject's figures in turn, round after round."""
    random = np.random.default_rng(0)
    for number in range(rounds + 1):  # the first round warms up
        console.print(f"round {number} of {rounds}")
        kept = report if number else Report()
        few, many = (engine.generate(prompts(random, ENGINE_BATCH, PROMPT), new).seconds for new in (FEW, NEW))
        add(kept, "engine", {}, ENGINE_BATCH, many)
        add_step(kept, "engine", {}, few, many)
        for how in SAMPLING:
            for subject, count, work in (
                ("one at a time", ALONE, one_at_a_time),
                ("queue", TOGETHER, queue),
                ("bulk", LINES, bulk),
            ):
                add(kept, subject, {"sampling": how}, count, work(send, bodies(random, count, how), f"{number}-{how}"))
            few, many = (queue(send, bodies(random, TOGETHER, how, new), f"{number}-{how}-{new}") for new in (FEW, NEW))
            add_step(kept, "queue", {"sampling": how}, few, many)


def bodies(random: np.random.Generator, count: int, how: str, new: int = NEW) -> list[dict[str, Any]]:
    """Requests for so many new tokens each."""
    return [
        {"prompt": tokens, "max_tokens": new, "seed": seed, **SAMPLING[how]}
        for seed, tokens in enumerate(prompts(random, count, PROMPT))
    ]


def one_at_a_time(send: Send, bodies: list[dict[str, Any]], _name: str) -> float:
    """The seconds direct invocations take, one after the other."""
    started = time.perf_counter()
    for each in bodies:
        send(each)
    return time.perf_counter() - started


def queue(send: Send, bodies: list[dict[str, Any]], name: str) -> float:
    """The seconds an event of SQS takes."""
    event = {
        "Records": [
            {
                "messageId": str(number),
                "body": json.dumps(each),
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {"request_id": {"stringValue": f"{name}-{number}", "dataType": "String"}},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:requests",
            }
            for number, each in enumerate(bodies)
        ]
    }
    started = time.perf_counter()
    if send(event)["batchItemFailures"]:
        raise BenchmarkError("a message was not answered")
    return time.perf_counter() - started


def bulk(send: Send, bodies: list[dict[str, Any]], name: str) -> float:
    """The seconds a range of a bulk run takes."""
    lines = [
        json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": each})
        for number, each in enumerate(bodies)
    ]
    data, source = "\n".join(lines).encode(), f"{INPUTS}{name}.jsonl"
    etag = s3_client().put_object(Bucket=RESULTS_BUCKET, Key=source, Body=data)["ETag"]
    started = time.perf_counter()
    done = send({"bulk": "part", "input": source, "etag": etag, "first": 0, "end": len(data)})
    seconds = time.perf_counter() - started
    if done.get("completed") != len(bodies):
        raise BenchmarkError(f"not all lines were answered: {done}")
    return seconds


def add(report: Report, subject: str, how: Setting, count: int, seconds: float) -> None:
    """Add a round's figures of the whole; a token of one at a time is one prompt's."""
    setting = {**how, "prompt": PROMPT, "new": NEW}
    report.add("prompts", subject, setting, "prompts/s", count / seconds)
    together = {"one at a time": 1, "bulk": LINES_TOGETHER}.get(subject, count)
    report.add("share", subject, setting, "ms", 1000 * seconds / NEW / (count / together))


def add_step(report: Report, subject: str, how: Setting, few: float, many: float) -> None:
    """Add how long each token behind the first few takes, of the seconds that few and many take."""
    report.add("step", subject, {**how, "prompt": PROMPT, "new": NEW}, "ms", 1000 * (many - few) / (NEW - FEW))


def show(report: Report, screen: Console) -> None:
    """Print a table a figure, and whether the queue's step is within its bound."""
    base = {"prompt": PROMPT, "new": NEW}
    for figure, setting, unit in report.settings():
        told = ", ".join(f"{name} {value}" for name, value in setting.items())
        if figure == "prompts":
            references = {"x one at a time": report.median(figure, "one at a time", setting)}
        else:
            references = {"x engine": report.median(figure, "engine", base)}
        screen.print(report.table(figure, setting, f"{figure}, {unit} ({told})", references))
    step = report.median("step", "engine", base)
    for how in SAMPLING:
        taken = report.median("step", "queue", {"sampling": how, **base})
        if taken is not None and step is not None:
            verdict = "pass" if taken <= BOUND * step else "miss"
            screen.print(
                f"{verdict}: a step of the queue's ten, {how}, takes {taken / step:.2f} x batch 8 (bound {BOUND})"
            )


if __name__ == "__main__":
    typer.run(main)
