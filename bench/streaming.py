"""`make bench-streaming`: what the way through a function URL and our own runtime adds, beside uvicorn alone.

The same application serves the demo model both ways, and a client on this machine reads the same streams from one and
the other in turn. The front that plays the function URL and Lambda's side of its API is part of what is measured.
Figures, in milliseconds at the client, subjects `uvicorn` and `function-url`:

- `first_token`: from sending the request to its first text.
- `gap`: between one text and the next, the mean of a stream.
- `added`: how much longer the gap is through the function URL, stream by stream; it must stay under `LIMIT`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer
from rich.console import Console

from bench.engine import ROOT
from bench.report import Report
from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.invoke import free_port
from lifecycle.local.models import publish_source
from lifecycle.local.serve import function_url_command, uvicorn_command, wait_until_ready
from lifecycle.machine import describe_machine

PROMPTS: Final = ("Once upon a time", "He said", "The sea was", "In the beginning")
TOKENS: Final = 128
LIMIT: Final = 1.0
WAYS: Final[dict[str, Callable[[int], list[str]]]] = {"uvicorn": uvicorn_command, "function-url": function_url_command}

SETTING: Final = {"model": "demo", "tokens": TOKENS}

console = Console(highlight=False)


class StreamError(Exception):
    """A server has not started, or a stream has not brought what it should."""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each prompt is sent each way.")] = 15,
    out: Annotated[Path, typer.Option(help="Where the lines of JSON go.")] = ROOT / "bench/results/streaming.jsonl",
) -> None:
    """Measure, print and write the results; the exit status says whether the limit was kept."""
    report = Report()
    with ExitStack() as stack:
        cloud = stack.enter_context(embedded_cloud())
        model = publish_source("demo", cloud.store, Console(stderr=True))
        environment = {**os.environ, **cloud.environment(model), "AUTH_MODE": "none"}
        clients = {
            way: stack.enter_context(_served(command(port := free_port()), port, environment))
            for way, command in WAYS.items()
        }
        for number in range(rounds + 1):
            for seed, prompt in enumerate(PROMPTS):
                read = {way: read_stream(client, prompt, seed) for way, client in clients.items()}
                if number:  # the first round warms up
                    add(report, read)
    report.write(out, describe_machine())
    added = report.median("added", "function-url", SETTING) or 0.0
    for figure in ("first_token", "gap"):
        uvicorn = report.median(figure, "uvicorn", SETTING)
        console.print(report.table(figure, SETTING, f"{figure}, ms", {"x uvicorn": uvicorn}))
    kept = added < LIMIT
    console.print(f"Added to a token: {added:.3f} ms, of {LIMIT:g} ms allowed: {'pass' if kept else 'miss'}.")
    sys.exit(not kept)


def read_stream(client: httpx.Client, prompt: str, seed: int) -> list[float]:
    """When the texts of a stream arrived, in seconds from the request."""
    body = {"prompt": prompt, "max_tokens": TOKENS, "seed": seed, "stream": True}
    times = []
    started = time.perf_counter()
    with client.stream("POST", "/v1/completions", json=body) as response:
        for line in response.iter_lines():
            now = time.perf_counter() - started
            if line.startswith("data: {") and json.loads(line.removeprefix("data: "))["choices"][0]["text"]:
                times.append(now)
    if len(times) < 2:
        raise StreamError(f"A stream of {TOKENS} tokens brought {len(times)} texts.")
    return times


def add(report: Report, read: dict[str, list[float]]) -> None:
    """Note what one prompt took each way: the times of its texts, in seconds from the request."""
    gaps = {}
    for way, times in read.items():
        gaps[way] = 1000 * (times[-1] - times[0]) / (len(times) - 1)
        report.add("first_token", way, SETTING, "ms", 1000 * times[0])
        report.add("gap", way, SETTING, "ms", gaps[way])
    report.add("added", "function-url", SETTING, "ms", gaps["function-url"] - gaps["uvicorn"])


@contextmanager
def _served(command: list[str], port: int, environment: dict[str, str]) -> Iterator[httpx.Client]:
    """Run a server, its log out of the way; yields a client of it."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        if not wait_until_ready(process, port):
            raise StreamError(f"{command} does not serve")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    typer.run(main)
