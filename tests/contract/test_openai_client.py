"""The official openai client, unchanged, against the application under uvicorn: real model, real keys, real sockets."""

import os
from collections.abc import Iterator
from typing import Any

import boto3
import openai
import pytest
from openai import OpenAI
from rich.console import Console

from handler.inference.library import PATH
from lifecycle.keys import KeyRegistry
from lifecycle.local.cloud import LOCAL_KEY, TABLE, Cloud, embedded_cloud
from lifecycle.local.models import publish_source
from tests.serving import server


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with embedded_cloud() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def address(cloud: Cloud) -> Iterator[str]:
    """A server that checks API keys, with the demo model."""
    model = publish_source("demo", cloud.store, Console(quiet=True))
    with server(cloud, model) as address:
        yield f"{address}/v1"


@pytest.fixture
def client(address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=address, api_key=LOCAL_KEY, max_retries=0) as client:
        yield client


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]


def test_a_completion(client: OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt="Once upon a time", max_tokens=12, temperature=0)

    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_an_answer_names_the_engine_it_is_from(client: OpenAI) -> None:
    def engine_of(**fields: Any) -> str:
        fingerprint = client.completions.create(
            model="demo", prompt="He said", max_tokens=2, **fields
        ).system_fingerprint
        return str(fingerprint).split("-")[1]

    # `make test-reference` and `make test-continuous` name it; without a compiled library there is only one.
    engine = os.environ.get("ENGINE", "native" if PATH.exists() else "reference")
    # Continuous batching has neither seeds nor log-probabilities: another engine with the same weights has.
    exact = "transformers" if engine == "continuous" else engine
    assert [engine_of(), engine_of(temperature=0), engine_of(seed=1), engine_of(logprobs=0)] == [
        engine,
        engine,
        exact,
        exact,
    ]


def test_every_parameter_the_engine_supports(client: OpenAI) -> None:
    def texts() -> list[str]:
        answer = client.completions.create(
            model="demo",
            prompt=["Once upon a time", "He said"],
            max_tokens=20,
            n=2,
            temperature=0.8,
            top_p=0.9,
            presence_penalty=0.5,
            frequency_penalty=0.5,
            logit_bias={"100": -100},
            stop=["\n", "."],
            seed=7,
            user="ada",
            extra_body={"top_k": 40, "min_p": 0.01, "repetition_penalty": 1.1},
        )
        return [choice.text for choice in answer.choices]

    first = texts()
    assert first == texts()
    assert len(first) == 4
    assert not any("\n" in text or "." in text for text in first)


def test_the_best_of_some_candidates(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 8, "seed": 7}
    best = client.completions.create(**fields, n=2, best_of=5)
    every = client.completions.create(**fields, n=5)

    assert len(best.choices) == 2
    assert {choice.text for choice in best.choices} < {choice.text for choice in every.choices}
    assert best.usage == every.usage


def test_a_stream_brings_the_text_in_pieces(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 30, "n": 2, "seed": 7}
    chunks = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    answer = client.completions.create(**fields)

    assert chunks[-1].usage == answer.usage
    assert len(chunks) > 10
    for choice in answer.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert parts[-1].finish_reason == choice.finish_reason


def test_a_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is Emma?"}],
        max_completion_tokens=12,
        seed=1,
        logprobs=True,
        top_logprobs=2,
    )
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    tokens = b"".join(bytes(entry.bytes or []) for entry in choice.logprobs.content)
    assert tokens.decode(errors="replace").startswith(choice.message.content)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 12


def test_a_chat_brings_its_answer_in_pieces(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Who is Emma?"}]
    whole = client.chat.completions.create(model="demo", messages=messages, max_tokens=12, seed=1)
    pieces = list(client.chat.completions.create(model="demo", messages=messages, max_tokens=12, seed=1, stream=True))
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_model_tells_what_it_is(client: OpenAI) -> None:
    model = client.models.retrieve("demo")
    assert model.id == "demo"
    assert model.model_extra is not None
    assert model.model_extra["architecture"]["model_type"] == "gpt2"


def test_echo_and_logprobs_score_a_text(client: OpenAI) -> None:
    text = "Once upon a time there was a little girl."
    answer = client.completions.create(model="demo", prompt=text, max_tokens=0, echo=True, logprobs=1)

    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text == text
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert "".join(logprobs.tokens) == text
    # Nothing precedes the first token, so it has no log-probability; the client's types do not know that.
    assert [logprob is None for logprob in logprobs.token_logprobs] == [True] + [False] * (len(logprobs.tokens) - 1)


@pytest.mark.parametrize(
    ("fields", "error", "code", "message"),
    [
        ({"max_tokens": 1000}, openai.BadRequestError, "context_length_exceeded", "at most 256 tokens"),
        ({"suffix": "b"}, openai.BadRequestError, "unsupported_parameter", "`suffix` is not supported: the model con"),
        ({"model": "gpt-5"}, openai.NotFoundError, "model_not_found", "'demo' is served here"),
    ],
)
def test_errors_arrive_as_the_clients_own(
    client: OpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], code: str, message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        client.completions.create(**{"model": "demo", "prompt": "a", **fields})
    assert caught.value.code == code


def test_a_stranger_is_refused(address: str) -> None:
    with OpenAI(base_url=address, api_key="sk-guess", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.models.list()
        assert refused.value.code == "invalid_api_key"


def test_a_limited_key_is_told_when_its_tokens_are_used(cloud: Cloud, address: str) -> None:
    table = boto3.client("dynamodb", endpoint_url=cloud.endpoint)
    key, _ = KeyRegistry(TABLE, table).create("ada", tokens_per_day=20)
    fields: dict[str, Any] = {"model": "demo", "prompt": "Once upon a time"}
    with OpenAI(base_url=address, api_key=key, max_retries=0) as client:
        assert client.completions.create(**fields, max_tokens=5).usage is not None
        with pytest.raises(openai.RateLimitError) as refused:
            client.completions.create(**fields, max_tokens=15)
    assert refused.value.code == "tokens_per_day_exceeded"
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 86_400
