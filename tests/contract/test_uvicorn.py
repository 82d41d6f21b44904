"""uvicorn and the official client over real sockets, in front of an engine that steps when the test lets it."""

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

from handler.errors import EngineError
from lifecycle.local.invoke import free_port
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.services import VOCABULARY, running_app

PATIENCE = 30.0  # how long a failing test takes


@contextmanager
def served(app: FastAPI) -> Iterator[OpenAI]:
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


def test_each_token_arrives_before_the_next_one_is_made(engine: FakeEngine, permits: threading.Semaphore) -> None:
    with running_app(engine) as app, served(app) as client:
        permits.release()
        stream = client.completions.create(model="tiny", prompt=[65], max_tokens=4, temperature=0, stream=True)
        texts = []
        for chunk in stream:
            texts.append(chunk.choices[0].text)
            permits.release()

    assert "".join(texts) == tiny_tokenizer(VOCABULARY).decode(continuation([65], 4, VOCABULARY))


def test_whoever_stops_reading_stops_the_generation_within_a_step(
    engine: FakeEngine, permits: threading.Semaphore, log: io.StringIO
) -> None:
    with running_app(engine) as app, served(app) as client:
        permits.release()
        with client.completions.create(model="tiny", prompt=[65], max_tokens=50, temperature=0, stream=True) as stream:
            next(stream)
        wait_until(lambda: '"message":"completion"' in log.getvalue())  # the server has given it up
        permits.release(50)
        assert engine.idle.wait(PATIENCE)

    assert len(engine.steps) <= 1  # the one that was under way


def test_an_error_on_the_way_is_raised_by_the_client(engine: FakeEngine, permits: threading.Semaphore) -> None:
    with running_app(engine) as app, served(app) as client:
        permits.release()
        stream = client.completions.create(model="tiny", prompt=[65], max_tokens=50, temperature=0, stream=True)
        next(stream)
        engine.fail_with = EngineError("The logits are not finite.")
        permits.release()
        with pytest.raises(openai.APIError, match=r"The logits are not finite\.") as raised:
            list(stream)
    assert raised.value.code == "engine_error"
