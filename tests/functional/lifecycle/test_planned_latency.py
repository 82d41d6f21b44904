"""A plan held against the function itself: a trace is sent through the runtime interface emulator, and then simulated.

How fast the function reads, writes and starts is taken from what it says of itself, in `Server-Timing`; how long
requests take is seen from outside. What the simulation makes of the one must be the other.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from rich.console import Console

from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.invoke import emulated_function, invoke
from lifecycle.local.models import publish_source
from lifecycle.planning.simulate import Function, simulate
from lifecycle.planning.speeds import FunctionSpeed
from lifecycle.planning.trace import read_traffic

EVENT = json.loads((Path(__file__).parents[2] / "events" / "http-api-v2.json").read_text())

# Tokens to read and to write. The first pair meets the cold start.
TRACE = [(3, 40), *[(20, 220), (100, 140), (60, 190)] * 4]


@dataclass(frozen=True, slots=True)
class Exchange:
    """In how many seconds a request was answered, its tokens, and the function's own timings."""

    seconds: float
    prompt: int
    output: int
    timings: dict[str, float]


def ask(address: str, prompt: int, output: int, seed: int) -> Exchange:
    """Have random text written, in which no drafts are found."""
    body = {"prompt": [list(range(300, 300 + prompt))], "max_tokens": output, "temperature": 1.0, "seed": seed}
    event = json.dumps(EVENT | {"body": json.dumps(body), "isBase64Encoded": False}).encode()
    sent = time.monotonic()
    answer = json.loads(invoke(address, event))
    seconds = time.monotonic() - sent
    usage = json.loads(answer["body"])["usage"]
    timings = re.findall(r"([\w-]+);dur=([\d.]+)", answer["headers"]["server-timing"])
    return Exchange(
        seconds,
        usage["prompt_tokens"],
        usage["completion_tokens"],
        {name: float(milliseconds) / 1000 for name, milliseconds in timings},
    )


@pytest.fixture(scope="module")
def exchanges() -> Iterator[list[Exchange]]:
    """The trace, sent one request after the other."""
    with embedded_cloud() as cloud:
        model = publish_source("demo", cloud.store, Console(quiet=True))
        with emulated_function(cloud.environment(model)) as address:
            yield [ask(address, *tokens, seed) for seed, tokens in enumerate(TRACE)]


def test_requests_take_what_the_plan_says(exchanges: list[Exchange], tmp_path: Path) -> None:
    """The start within a third; warm answers, by the median, within a factor of three.

    Others use this machine, too, and looking up the key, which a plan does not count, takes some milliseconds here.
    """
    path = tmp_path / "trace.jsonl"
    with path.open("w") as lines:
        for minute, one in enumerate(exchanges):  # none meets another, neither there nor here
            line = {"time": minute * 60, "prompt_tokens": one.prompt, "output_tokens": one.output}
            lines.write(f"{json.dumps(line)}\n")
    learned = exchanges[1::2]
    start = exchanges[0].timings["cold_start_first_token"]
    speed = FunctionSpeed(
        prefill=median(one.prompt / one.timings["prefill"] for one in learned),
        decode=median((one.output - 1) / one.timings["decode"] for one in learned),
        start=(start, start, start),
        front_start=0.0,
        weights_bytes=0.0,
    )
    planned = simulate(read_traffic(path), Function(speed), None)
    assert planned.usage.starts == 1
    assert exchanges[0].seconds == pytest.approx(planned.answer[0], rel=1 / 3)
    held = zip(exchanges[2::2], planned.answer[2::2], strict=True)
    assert 1 / 3 < median(one.seconds / seconds for one, seconds in held) < 3
