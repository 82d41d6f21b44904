"""Streams that the front passes on, under uvicorn and in our own runtime: piece by piece, and ended when they break."""

import io
import threading
from collections.abc import Iterator

import openai
import pytest
from openai.types import Completion

from handler.tandem.rules import Belief
from tests.fake_engine import FakeEngine
from tests.functional.tandem.pair import TEXT, GpuService, fake_engine, front, gpu_service, lookout_of
from tests.serving import PATIENCE, Way, both_ways, served, wait_until


@pytest.fixture
def permits() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def engine(permits: threading.Semaphore) -> FakeEngine:
    """The service's, which steps when the test lets it."""
    return fake_engine(permits=permits)


@pytest.fixture
def service(engine: FakeEngine) -> Iterator[GpuService]:
    with gpu_service(engine) as service:
        yield service


def streamed(client: openai.OpenAI, max_tokens: int = 4) -> openai.Stream[Completion]:
    return client.completions.create(model="tiny", prompt=[65], max_tokens=max_tokens, temperature=0, stream=True)


@both_ways
def test_each_token_arrives_before_the_next_one_is_made(
    way: Way, service: GpuService, permits: threading.Semaphore
) -> None:
    own = fake_engine()
    with front(service, own) as app, served(way(app)) as client:
        permits.release()
        texts = []
        for chunk in streamed(client):
            texts.append(chunk.choices[0].text)
            permits.release()
    assert "".join(texts) == TEXT
    assert own.steps == []


@both_ways
def test_whoever_stops_reading_stops_the_generation_within_a_step(
    way: Way, service: GpuService, engine: FakeEngine, permits: threading.Semaphore, log: io.StringIO
) -> None:
    with front(service) as app, served(way(app)) as client:
        permits.release()
        with streamed(client, max_tokens=50) as stream:
            next(stream)
        wait_until(lambda: '"message":"completion"' in log.getvalue())  # the service has given it up
        permits.release(50)
        assert engine.idle.wait(PATIENCE)
        assert lookout_of(app).awake()  # which is nobody's fault
    assert len(engine.steps) <= 1  # the one that was under way


@both_ways
def test_a_stream_that_breaks_off_ends_with_an_error(
    way: Way, service: GpuService, permits: threading.Semaphore
) -> None:
    service.breaks_after = 2
    permits.release(50)
    with front(service) as app, served(way(app)) as client:
        stream = streamed(client)
        assert [next(stream).choices[0].text, next(stream).choices[0].text] != ["", ""]
        with pytest.raises(openai.APIError, match="What was making this text went away") as raised:
            next(stream)
        wait_until(lambda: lookout_of(app).belief is Belief.SUSPECT)
    assert raised.value.code == "stream_interrupted"


def test_one_that_breaks_off_before_its_first_event_is_begun_anew_here(
    service: GpuService, permits: threading.Semaphore
) -> None:
    service.breaks_after = 0
    permits.release(50)
    own = fake_engine()
    with front(service, own) as app, served(app) as client:
        assert "".join(chunk.choices[0].text for chunk in streamed(client)) == TEXT
    assert len(service.asked) == 1
    assert own.steps != []
