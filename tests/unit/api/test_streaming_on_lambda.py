"""The application in our own runtime: tokens leave as they are made, and whoever leaves stops them."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from lifecycle.local.invocation import LocalInvocation
from tests.exchanges import events_of
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.runtimes import PATIENCE, answer, running, url_event
from tests.services import VOCABULARY, running_app

BODY = {"prompt": [65], "max_tokens": 50, "temperature": 0, "stream": True}


@pytest.fixture
def permits() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def engine(permits: threading.Semaphore) -> FakeEngine:
    return FakeEngine(vocabulary_size=VOCABULARY, permits=permits)


async def event(invocation: LocalInvocation) -> Any:
    """The next server-sent event."""
    async for chunk in invocation:
        if chunk.data.startswith(b"data: "):
            return json.loads(chunk.data.removeprefix(b"data: "))
    raise AssertionError("there are no more events")


def test_each_token_arrives_before_the_next_one_is_made(engine: FakeEngine, permits: threading.Semaphore) -> None:
    async def test() -> str:
        with running_app(engine) as app:
            async with running(app) as api:
                invocation = api.invoke(url_event("/v1/completions", {**BODY, "max_tokens": 5}))
                text = ""
                for _ in range(5):
                    permits.release()
                    text += (await event(invocation))["choices"][0]["text"]
                await invocation.body()
        assert invocation.chunks[-1].data == b"data: [DONE]\n\n"
        return text

    assert asyncio.run(test()) == tiny_tokenizer(VOCABULARY).decode(continuation([65], 5, VOCABULARY))


def test_whoever_hangs_up_stops_the_generation_within_a_step(engine: FakeEngine, permits: threading.Semaphore) -> None:
    async def test() -> None:
        with running_app(engine) as app:
            async with running(app) as api:
                invocation = api.invoke(url_event("/v1/completions", BODY))
                permits.release()
                await event(invocation)
                invocation.abandon()
                # It asks for the next invocation, so it has done with this one.
                assert (await answer(api.invoke(url_event("/healthz"))))[0]["statusCode"] == 405
                permits.release(50)
                assert await asyncio.to_thread(engine.idle.wait, PATIENCE)

    asyncio.run(test())
    assert len(engine.steps) <= 1  # the one that was under way


def test_lambdas_deadline_cuts_the_text_and_no_gateways_does() -> None:
    # Behind a REST API the clock of buffered responses would have run out 28 seconds ago.
    begun = url_event("/v1/completions", BODY)
    begun["requestContext"] |= {"domainName": "api.example", "timeEpoch": (time.time() - 57) * 1000}

    async def finish(seconds: float, seconds_per_step: float) -> Any:
        engine = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=seconds_per_step)
        with running_app(engine) as app:
            async with running(app) as api:
                _, body = await answer(api.invoke(begun, seconds))
        *_, last, done = events_of(body.decode())
        assert done == "[DONE]"
        return last["choices"][0]["cut_by"]

    assert asyncio.run(finish(60, 0)) is None
    # Half a second is kept to answer in, and the other does not suffice for 50 tokens.
    assert asyncio.run(finish(1, 0.02)) == "deadline"
