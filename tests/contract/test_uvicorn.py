"""The official client over real sockets, in front of an engine that steps when the test lets it: under uvicorn, and
through a function URL and our own runtime, as on Lambda.
"""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import openai
import pytest
import uvicorn
from fastapi import FastAPI
from openai import OpenAI
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.errors import EngineError
from lifecycle.local.function_url import FunctionUrl
from lifecycle.local.invoke import free_port
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.runtimes import running
from tests.services import VOCABULARY, running_app

PATIENCE = 30.0  # how long a failing test takes


@contextmanager
def served(app: ASGIApp) -> Iterator[OpenAI]:
    """The application under uvicorn, in a thread; yields a client of it."""
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        address = f"http://127.0.0.1:{server.config.port}/v1"
        with OpenAI(base_url=address, api_key="any", max_retries=0) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


class OnLambda:
    """An application behind a function URL, in our own runtime."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._url: ASGIApp = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._url(scope, receive, send)
            return
        await receive()
        async with running(self._app) as api:
            self._url = FunctionUrl(api)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


Way = Callable[[FastAPI], ASGIApp]

both_ways = pytest.mark.parametrize("way", [lambda app: app, OnLambda], ids=["uvicorn", "function-url"])


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def permits() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def engine(permits: threading.Semaphore) -> FakeEngine:
    return FakeEngine(vocabulary_size=VOCABULARY, permits=permits)


@both_ways
def test_each_token_arrives_before_the_next_one_is_made(
    way: Way, engine: FakeEngine, permits: threading.Semaphore
) -> None:
    with running_app(engine) as app, served(way(app)) as client:
        permits.release()
        stream = client.completions.create(model="tiny", prompt=[65], max_tokens=4, temperature=0, stream=True)
        texts = []
        for chunk in stream:
            texts.append(chunk.choices[0].text)
            permits.release()

    assert "".join(texts) == tiny_tokenizer(VOCABULARY).decode(continuation([65], 4, VOCABULARY))


@both_ways
def test_whoever_stops_reading_stops_the_generation_within_a_step(
    way: Way, engine: FakeEngine, permits: threading.Semaphore, log: io.StringIO
) -> None:
    with running_app(engine) as app, served(way(app)) as client:
        permits.release()
        with client.completions.create(model="tiny", prompt=[65], max_tokens=50, temperature=0, stream=True) as stream:
            next(stream)
        wait_until(lambda: '"message":"completion"' in log.getvalue())  # the server has given it up
        permits.release(50)
        assert engine.idle.wait(PATIENCE)

    assert len(engine.steps) <= 1  # the one that was under way


@both_ways
def test_an_error_on_the_way_is_raised_by_the_client(
    way: Way, engine: FakeEngine, permits: threading.Semaphore
) -> None:
    with running_app(engine) as app, served(way(app)) as client:
        permits.release()
        stream = client.completions.create(model="tiny", prompt=[65], max_tokens=50, temperature=0, stream=True)
        next(stream)
        engine.fail_with = EngineError("The logits are not finite.")
        permits.release()
        with pytest.raises(openai.APIError, match=r"The logits are not finite\.") as raised:
            list(stream)
    assert raised.value.code == "engine_error"
