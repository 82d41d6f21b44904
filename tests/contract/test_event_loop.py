"""The event loop is never blocked: beside bodies of a megabyte, streams and completions, a heartbeat keeps its time."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from handler.api.strict_json import MOST_VALUES
from handler.app import spare_the_event_loop
from handler.inference.tokenizer import MOST_BYTES
from tests.exchanges import Exchange
from tests.services import make_settings, running_app

LONGEST_BLOCK = 0.005
REST = 0.001
LIMIT = make_settings().max_body_bytes

# A machine with other work makes a beat late, and never early: one round in which no beat was late is proof.
ROUNDS = 100


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    """As `serve` sets a process up."""
    before = sys.getswitchinterval()
    with running_app() as app:
        spare_the_event_loop()
        yield app
    sys.setswitchinterval(before)


def items(item: bytes, count: int) -> bytes:
    return b'{"prompt": [' + b",".join([item] * count) + b"]}"


def text(characters: str, field: str = "prompt", size: int = LIMIT) -> bytes:
    return json.dumps({field: characters * (size // len(json.dumps(characters)))}).encode()


async def _heartbeat(blocks: list[float]) -> None:
    """Note by how much each beat was late, as far as this process was at work: what others did is no block.

    Nor is it one that this thread could have run and had no processor; Linux counts that (the second figure of
    schedstat, in nanoseconds).
    """
    while True:
        started, worked, waited = time.perf_counter(), time.process_time(), _waited_for_a_processor()
        await asyncio.sleep(REST)
        late = time.perf_counter() - started - REST - (_waited_for_a_processor() - waited)
        blocks.append(min(late, time.process_time() - worked))


def _waited_for_a_processor() -> float:
    """This thread, since it began; in seconds."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) * 1e-9


async def _longest_block(app: FastAPI, path: str, body: dict[str, Any] | bytes, status: int) -> float:
    blocks: list[float] = []
    heartbeat = asyncio.create_task(_heartbeat(blocks))
    await asyncio.sleep(0)
    exchanges = [Exchange(app, path, body) for _ in range(2)]
    assert [await exchange.status() for exchange in exchanges] == [status] * 2
    for exchange in exchanges:
        await exchange.body()
        await exchange.finished()
    await asyncio.sleep(2 * REST)
    heartbeat.cancel()
    return max(blocks)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/v1/completions", text("she said, so "), 400, id="a text"),
        pytest.param("/v1/completions", text("she said, so ", size=MOST_BYTES), 400, id="a shorter text"),
        pytest.param("/tokenize", text(',"', "text"), 400, id="commas and quotation marks"),
        pytest.param("/tokenize", text(',"', "text", MOST_BYTES), 400, id="fewer of them"),
        pytest.param("/tokenize", text("she said, so ", "text", 60_000), 200, id="a text that is cut"),
        pytest.param("/detokenize", json.dumps({"tokens": [65] * MOST_VALUES}).encode(), 200, id="ids that are joined"),
        pytest.param("/v1/completions", items(b"12", MOST_VALUES), 400, id="ids"),
        pytest.param("/v1/completions", items(b"{}", MOST_VALUES), 400, id="objects"),
        pytest.param("/v1/completions", items(b"12", LIMIT // 4), 413, id="too many ids"),
        pytest.param("/v1/completions", items(b'""', LIMIT // 4), 413, id="too many texts"),
        pytest.param("/v1/completions", b"[" * LIMIT, 400, id="brackets"),
        pytest.param("/v1/completions", b'{"a":' * (LIMIT // 5), 400, id="braces"),
        pytest.param("/v1/score", {"input": [[1] * 60] * 4, "tokens": True}, 200, id="scores"),
        pytest.param("/v1/explain", {"prompt": [1] * 30}, 200, id="an explanation"),
        pytest.param(
            "/v1/completions",
            {"prompt": ["the sea"] * 4, "max_tokens": 50, "logprobs": 5, "echo": True},
            200,
            id="completions",
        ),
        pytest.param(
            "/v1/completions",
            {"prompt": ["the sea"] * 4, "max_tokens": 50, "logprobs": 5, "stream": True},
            200,
            id="streams",
        ),
    ],
)
def test_nothing_blocks_the_event_loop(app: FastAPI, path: str, body: Any, status: int) -> None:
    longest = []
    for _ in range(ROUNDS):
        longest.append(asyncio.run(_longest_block(app, path, body, status)))
        if longest[-1] < LONGEST_BLOCK:
            return
    pytest.fail(f"blocked for {min(longest) * 1e3:.1f} ms at least")
