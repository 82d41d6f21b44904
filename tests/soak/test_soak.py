"""A container with continuous batching under many clients that come and go, for minutes: `make soak`.

Nothing may be lost and nobody forgotten: no error but those whose client has gone, no page of the cache and no memory
that is not given back, no client who waits for ever, and in the end an answer for everybody who was let in.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.invoke import free_port
from lifecycle.local.models import publish_source
from tests.serving import wait_until, wait_until_ready
from tests.soak.clients import PATIENCE, Client, Experience

pytestmark = pytest.mark.soak

SECONDS: Final = 60 * float(os.environ.get("MINUTES", "5"))
CLIENTS: Final = 64

# Room for about thirty of the clients' longest sequences: pages run out, and the last come give theirs up.
KV_CACHE_MB: Final = 120

# A first token comes within a few steps, or when those who came before have made room.
MOST_WAIT_OVER_MEDIAN: Final = 20


# In the last two thirds of the time, by the line that fits best: what a process takes at first it keeps and uses again.
MOST_GROWTH_BYTES: Final = 16e6


@dataclass
class Server:
    """The container.

    Attributes:
        process: it.
        address: where it is asked.
        metrics: where it says how it is.
        log: the file it writes its log to.
    """

    process: subprocess.Popen[bytes]
    address: str
    metrics: str
    log: Path

    def gauges(self) -> dict[str, float]:
        """What it says of its batch and its cache."""
        with urlopen(self.metrics) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
        return {sample.name: sample.value for family in families for sample in family.samples if family.type == "gauge"}

    def is_idle(self) -> bool:
        """Whether nobody is worked on or waited for, and the whole cache is free."""
        gauges = self.gauges()
        names = ("gpt2_choices_running", "gpt2_choices_waiting", "gpt2_cache_use_ratio", "gpt2_requests_in_flight")
        return all(gauges[name] == 0 for name in names)

    def resident_bytes(self) -> int:
        """Its memory (`man 5 proc`, statm: the second number is in pages)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    port, metrics_port, log = free_port(), free_port(), tmp_path / "log"
    with embedded_cloud() as cloud, log.open("w") as output:
        model = publish_source("demo", cloud.store, Console(quiet=True))
        environment = {
            "ENGINE": "continuous",
            "DEVICE": "cpu",
            "KV_CACHE_MB": str(KV_CACHE_MB),
            "AUTH_MODE": "none",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "METRICS_PORT": str(metrics_port),
            "MAX_REQUESTS": str(2 * CLIENTS),  # who has gone away may take a step to be noticed
            "DRAIN_SECONDS": "60",
        }
        variables = {**os.environ, **cloud.environment(model), **environment}
        with subprocess.Popen([sys.executable, "-m", "handler.container"], env=variables, stdout=output) as process:
            try:
                wait_until_ready(f"http://127.0.0.1:{port}/readyz")
                yield Server(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics", log)
            finally:
                process.kill()


def test_soak(server: Server) -> None:
    assert server.is_idle()
    experience, memory = asyncio.run(soak(server))
    wait_until(server.is_idle)
    report(experience, memory)

    assert experience.faults == []
    assert experience.begun == experience.finished + experience.left
    median, late = np.percentile(experience.waits, (50, 99))
    assert late < MOST_WAIT_OVER_MEDIAN * median
    assert growth_of(memory[len(memory) // 3 :]) < MOST_GROWTH_BYTES

    burst = asyncio.run(drain(server))
    assert burst == Experience(begun=CLIENTS, finished=CLIENTS, waits=burst.waits)
    assert server.process.wait(PATIENCE) == 0
    messages = {json.loads(line)["message"] for line in server.log.read_text().splitlines()}
    assert "cut off" not in messages


async def soak(server: Server) -> tuple[Experience, list[int]]:
    """All clients ask, for so long; what they have seen, and the memory of the server second by second."""
    experience, memory = Experience(), []
    end = time.monotonic() + SECONDS
    async with clients_of(server, experience) as clients:
        asking = [asyncio.create_task(client.ask_while(lambda: time.monotonic() < end)) for client in clients]
        while time.monotonic() < end:
            await asyncio.sleep(1)
            memory.append(server.resident_bytes())
        await asyncio.gather(*asking)
    return experience, memory


async def drain(server: Server) -> Experience:
    """All clients ask once more, and when each has its first token the server is told to end."""
    experience = Experience()
    async with clients_of(server, experience) as clients:
        body = {"prompt": "Once upon a time", "max_tokens": 100, "stream": True}
        asking = [asyncio.create_task(client.ask(body)) for client in clients]
        await asyncio.wait_for(asyncio.gather(*(client.has_token.wait() for client in clients)), PATIENCE)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*asking)
    return experience


@asynccontextmanager
async def clients_of(server: Server, experience: Experience) -> AsyncIterator[list[Client]]:
    """The clients, each with a connection of its own."""
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=server.address, limits=limits, timeout=PATIENCE) as http:
        yield [Client(http, number, experience) for number in range(CLIENTS)]


def growth_of(memory: list[int]) -> float:
    """How many bytes more it is in the end than at the beginning."""
    slope, _ = np.polyfit(range(len(memory)), memory, 1)
    return float(slope * len(memory))


def report(experience: Experience, memory: list[int]) -> None:
    """Say how it went."""
    median, late = np.percentile(experience.waits, (50, 99))
    Console(soft_wrap=True).print(
        f"\n{experience.begun} requests in {SECONDS:.0f} s, {experience.left} left by their clients; first token after "
        f"{median:.2f} s (median), {late:.2f} s (99 of 100); memory {memory[0] / 1e6:.0f} MB, in the end "
        f"{memory[-1] / 1e6:.0f} MB"
    )
