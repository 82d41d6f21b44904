"""The official client over real sockets, in front of an engine that steps when the test lets it: under uvicorn, and
through a function URL and our own runtime, as on Lambda.
"""

import io
import threading

import openai
import pytest

from handler.errors import EngineError
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.services import VOCABULARY, running_app
from tests.serving import PATIENCE, Way, both_ways, served, wait_until


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
