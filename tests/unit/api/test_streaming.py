"""`stream: true`: whole streams of events, and what becomes of a client that leaves; nothing here waits for a clock."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from handler.errors import EngineError
from tests.exchanges import Exchange, events_of
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.services import VERSION, VOCABULARY, running_app

TOKENIZER = tiny_tokenizer(VOCABULARY)
PATIENCE = 30.0  # how long a failing test takes


@pytest.fixture
def app() -> Iterator[FastAPI]:
    with running_app() as app:
        yield app


def streamed(app: FastAPI, **fields: Any) -> list[Any]:
    response = TestClient(app).post("/v1/completions", json={"prompt": "the sea", "stream": True, **fields})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in response.headers
    return events_of(response.text)


def whole(app: FastAPI, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = TestClient(app).post("/v1/completions", json={"prompt": "the sea", **fields}).json()
    return answer


def test_a_stream_as_a_whole(app: FastAPI) -> None:
    *chunks, done = streamed(app, max_tokens=3, temperature=0, logit_bias={"65": 100})

    assert done == "[DONE]"
    assert len({chunk.pop("id") for chunk in chunks}) == 1
    assert len({chunk.pop("created") for chunk in chunks}) == 1
    text = TOKENIZER.decode([65])
    about = {"object": "text_completion", "model": "tiny", "system_fingerprint": f"{VERSION}-fake"}
    part = {"index": 0, "text": text, "logprobs": None, "finish_reason": None, "cut_by": None}
    end = {**part, "text": "", "finish_reason": "length"}
    assert chunks == [about | {"choices": [choice]} for choice in (part, part, part, end)]


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(app: FastAPI) -> None:
    *chunks, last, done = streamed(app, max_tokens=3, stream_options={"include_usage": True})

    assert done == "[DONE]"
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_usage_is_not_mentioned_otherwise(app: FastAPI, options: Any) -> None:
    *chunks, _ = streamed(app, max_tokens=3, stream_options=options)
    assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": ["the sea", "said he"], "n": 2},
        {"prompt": [[80, 81], [1, 2]], "n": 2, "logprobs": 3, "echo": True, "stop": ["e", "a"]},
        {"max_tokens": 0, "echo": True, "logprobs": 1},
    ],
)
def test_the_chunks_add_up_to_the_answer_in_one_piece(app: FastAPI, fields: dict[str, Any]) -> None:
    fields = {"max_tokens": 20, "seed": 5, **fields}
    *chunks, usage, _ = streamed(app, **fields, stream_options={"include_usage": True})
    answer = whole(app, **fields)

    assert usage["usage"] == answer["usage"]
    for choice in answer["choices"]:
        parts = [part for chunk in chunks for part in chunk["choices"] if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [choice["finish_reason"]]
        for name, values in (choice["logprobs"] or {}).items():
            assert [value for part in parts for value in part["logprobs"][name]] == values


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"max_tokens": 5000}, 400, "invalid_value"),
        ({"model": "gpt-5"}, 404, "model_not_found"),
        ({"stream": False, "stream_options": {}}, 400, "invalid_value"),
    ],
)
def test_what_is_wrong_from_the_start_has_its_status(
    app: FastAPI, fields: dict[str, Any], status: int, code: str
) -> None:
    response = TestClient(app).post("/v1/completions", json={"prompt": "a", "stream": True, **fields})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (EngineError("The logits are not finite."), ("The logits are not finite.", "engine_error")),
        (ArithmeticError("the sea"), ("Something went wrong here; it has been logged.", None)),
    ],
)
def test_an_error_on_the_way_is_the_last_event(failure: Exception, expected: tuple[str, str | None]) -> None:
    permits = threading.Semaphore(1)
    engine = FakeEngine(vocabulary_size=VOCABULARY, permits=permits)

    async def exchange(app: FastAPI) -> None:
        client = Exchange(app, "/v1/completions", {"prompt": [65], "stream": True, "temperature": 0})
        assert await client.status() == 200
        assert json.loads(await client.event())["choices"][0]["text"]
        engine.fail_with = failure
        permits.release()
        error = {"message": expected[0], "type": "server_error", "param": None, "code": expected[1]}
        assert events_of((await client.body()).decode()) == [{"error": error}]
        await client.finished()

    with running_app(engine) as app:
        asyncio.run(exchange(app))


def test_a_piece_leaves_before_the_next_one_is_made() -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(vocabulary_size=VOCABULARY, permits=permits)
    expected = TOKENIZER.decode(continuation([65], 5, VOCABULARY))

    async def exchange(app: FastAPI) -> str:
        body = {"prompt": [65], "max_tokens": 5, "stream": True, "temperature": 0}
        client = Exchange(app, "/v1/completions", body)
        text = ""
        for step in range(5):
            permits.release()
            if step == 0:
                assert await client.status() == 200
            text += json.loads(await client.event())["choices"][0]["text"]
        await client.body()
        return text

    with running_app(engine) as app:
        # This engine's tokens are all whole characters here.
        assert asyncio.run(exchange(app)) == expected


@pytest.mark.parametrize(
    ("path", "body"),
    [
        # Drawn at random, the text would end by itself now and then.
        ("/v1/completions", {"prompt": [65], "max_tokens": 50, "stream": True, "temperature": 0}),
        ("/v1/completions", {"prompt": [65], "max_tokens": 50, "temperature": 0}),
        ("/generate_text", {"prompt": "a", "max_length": 50, "do_sample": False}),
    ],
)
def test_a_client_that_leaves_stops_its_generation_within_a_step(path: str, body: dict[str, Any]) -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(vocabulary_size=VOCABULARY, permits=permits)

    async def exchange(app: FastAPI) -> None:
        client = Exchange(app, path, body)
        for _ in range(3):  # the prompt, and two tokens more
            permits.release()
        while len(engine.steps) < 2:
            await asyncio.sleep(0.001)
        client.leave()
        # Only when the application has heard of it is there time for more.
        await asyncio.wait_for(client.finished(), PATIENCE)
        for _ in range(50):
            permits.release()
        assert await asyncio.to_thread(engine.idle.wait, PATIENCE)

    with running_app(engine) as app:
        asyncio.run(exchange(app))
    assert len(engine.steps) <= 3  # the one that was under way, and none after it


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/score", {"input": ["the sea", "he said", "she said", "said he"]}),
        ("/v1/explain", {"prompt": [1, 2, 3, 4, 5, 6], "continuation": [7]}),
    ],
)
def test_a_client_that_leaves_stops_what_is_read_for_it_within_a_step(path: str, body: dict[str, Any]) -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(1, vocabulary_size=VOCABULARY, permits=permits)  # reads one text at a time

    async def exchange(app: FastAPI) -> None:
        client = Exchange(app, path, body)
        permits.release(2)
        while len(engine.chunks) < 2:
            await asyncio.sleep(0.001)
        client.leave()
        await asyncio.wait_for(client.finished(), PATIENCE)
        permits.release(50)
        assert await asyncio.to_thread(engine.idle.wait, PATIENCE)

    with running_app(engine) as app:
        asyncio.run(exchange(app))
    assert len(engine.chunks) <= 3
