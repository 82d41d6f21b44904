"""What holds of every completion, whatever is asked: hypothesis looks for a request that it does not hold of."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from handler.inference.tokenizer import END_OF_TEXT
from tests.exchanges import events_of
from tests.models import tiny_tokenizer
from tests.services import VOCABULARY, running_app

TOKENIZER = tiny_tokenizer(VOCABULARY)

TEXT = st.text(max_size=10)  # 40 tokens at most, each a byte; the context holds 64

# Pieces of what the model writes, so that stop strings are met, are met in part, and contain each other.
STOP = st.text("aeho snt,.", min_size=1, max_size=3)

REQUESTS = st.fixed_dictionaries(
    {"prompt": st.one_of(TEXT, st.lists(TEXT, min_size=1, max_size=2)), "max_tokens": st.integers(0, 20)},
    optional={
        "n": st.integers(1, 2),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "stop": st.one_of(STOP, st.lists(STOP, max_size=4)),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0.01, 1),
        "top_k": st.integers(0, 50),
        "frequency_penalty": st.floats(-2, 2),
        "logit_bias": st.dictionaries(st.integers(0, VOCABULARY - 1).map(str), st.floats(-100, 100), max_size=3),
        "echo": st.booleans(),
        "logprobs": st.integers(0, 5),
    },
)

tries = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with running_app() as app:
        yield TestClient(app)


def ask(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def prompts(body: dict[str, Any]) -> list[str]:
    return [body["prompt"]] if isinstance(body["prompt"], str) else body["prompt"]


@tries
@given(REQUESTS)
def test_usage_is_what_is_returned_and_within_the_budget(client: TestClient, body: dict[str, Any]) -> None:
    answer = ask(client, {**body, "logprobs": 0, "echo": False})
    # The end of text is listed where it ended a choice, and is not part of it.
    lengths = [sum(token != END_OF_TEXT for token in choice["logprobs"]["tokens"]) for choice in answer["choices"]]
    read = sum(len(TOKENIZER.encode(prompt)) or 1 for prompt in prompts(body))

    assert answer["usage"] == {
        "prompt_tokens": read,
        "completion_tokens": sum(lengths),
        "total_tokens": read + sum(lengths),
    }
    assert max(lengths) <= body["max_tokens"]
    for choice, length in zip(answer["choices"], lengths, strict=True):
        assert choice["finish_reason"] == "stop" or length == body["max_tokens"]


@tries
@given(REQUESTS)
def test_no_output_holds_a_stop_string(client: TestClient, body: dict[str, Any]) -> None:
    stops = body.get("stop", [])
    for choice in ask(client, {**body, "echo": False})["choices"]:
        assert not [stop for stop in ([stops] if isinstance(stops, str) else stops) if stop in choice["text"]]


@tries
@given(REQUESTS, st.integers(0, 2**63 - 1))
def test_the_same_seed_gives_the_same_text(client: TestClient, body: dict[str, Any], seed: int) -> None:
    first, again = (ask(client, {**body, "seed": seed}) for _ in range(2))
    assert first["choices"] == again["choices"]


@tries
@given(REQUESTS, st.integers(0, 2**63 - 1))
def test_a_stream_adds_up_to_the_answer_in_one_piece(client: TestClient, body: dict[str, Any], seed: int) -> None:
    body = {**body, "seed": seed}
    whole = ask(client, body)
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = events_of(client.post("/v1/completions", json=streamed).text)

    assert (usage["usage"], done) == (whole["usage"], "[DONE]")
    for choice in whole["choices"]:
        parts = [part for chunk in chunks for part in chunk["choices"] if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts if part["finish_reason"]] == [choice["finish_reason"]]
        for name, values in (choice["logprobs"] or {}).items():
            assert [value for part in parts for value in part["logprobs"][name]] == values


@tries
@given(TEXT.filter(bool))
def test_any_unicode_comes_back_as_it_was(client: TestClient, prompt: str) -> None:
    [choice] = ask(client, {"prompt": prompt, "max_tokens": 0, "echo": True})["choices"]
    assert choice["text"] == prompt
    tokens = client.post("/tokenize", json={"text": prompt}).json()["tokens"]
    assert client.post("/detokenize", json={"tokens": tokens}).json() == {"text": prompt}
