"""More connections than there are places: whoever finds none is told at once, and nobody inside notices."""

import asyncio
import statistics
import threading
import time

import anyio
import httpx
from anyio import to_thread
from starlette.types import Receive, Scope, Send

from handler.api.capacity import CapacityMiddleware
from tests.exchanges import Exchange
from tests.fake_engine import FakeEngine
from tests.services import VOCABULARY, make_settings, running_app
from tests.serving import PATIENCE, served

PLACES, CONNECTIONS = 4, 40

FULL = {
    "error": {
        "message": f"At most {PLACES} requests are worked on or waiting at once, and so many are.",
        "type": "rate_limit_error",
        "param": None,
        "code": "over_capacity",
    }
}


def test_the_request_after_the_last_place_is_refused_at_once() -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(vocabulary_size=VOCABULARY, permits=permits)
    with running_app(engine, make_settings(max_requests=PLACES)) as app, served(app) as openai_client:
        address = str(openai_client.base_url)
        anyio.run(_flood, address, permits)


async def _flood(address: str, permits: threading.Semaphore) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=PATIENCE) as client:

        async def ask() -> httpx.Response:
            return await client.post("completions", json={"prompt": [65], "max_tokens": 2, "temperature": 0})

        asked = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
        # The engine does not move, so that whoever has an answer was refused.
        while sum(each.done() for each in asked) < CONNECTIONS - PLACES:
            await asyncio.sleep(0.005)
        refused = [each.result() for each in asked if each.done()]
        assert [(each.status_code, each.headers["retry-after"], each.json()) for each in refused] == [
            (429, "1", FULL)
        ] * (CONNECTIONS - PLACES)

        seconds = []
        for _ in range(9):
            started = time.perf_counter()
            assert (await ask()).status_code == 429
            assert (await client.get(f"{address.removesuffix('/v1/')}/healthz")).status_code == 200
            seconds.append(time.perf_counter() - started)
        assert statistics.median(seconds) < 0.050  # for both of them

        permits.release(1000)
        answered = [each.status_code for each in await asyncio.gather(*asked)]
        assert sorted(answered) == [200] * PLACES + [429] * (CONNECTIONS - PLACES)
        assert (await ask()).status_code == 200  # the places are free again


def test_whoever_has_a_place_has_a_thread() -> None:
    places = 60  # more than the threads anyio starts by itself
    together = threading.Barrier(places, timeout=PATIENCE)

    async def wait_for_the_others(scope: Scope, receive: Receive, send: Send) -> None:
        await to_thread.run_sync(together.wait)

    async def run() -> None:
        app = CapacityMiddleware(wait_for_the_others, places)
        for exchange in [Exchange(app, "/generate_text", {}) for _ in range(places)]:
            await exchange.finished()

    anyio.run(run)  # a barrier that is not reached breaks
