"""What every deployment must do, whatever its model: `make smoke URL= KEY=` asks one, and `make test` one of its own.

It is for deployments that check API keys, or tokens in their place; requests are not signed (AuthMode=iam).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from lifecycle.local.cloud import LOCAL_KEY
from tests.serving import demo_server, wait_until_ready

CHAT: list[Any] = [{"role": "user", "content": "Who are you?"}]


@dataclass(frozen=True)
class Deployment:
    """Where it answers, and what opens it."""

    url: str
    key: str


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """The one that is named, or one of our own."""
    if url := os.environ.get("SMOKE_URL"):
        try:
            wait_until_ready(f"{url.rstrip('/')}/readyz")  # it may have to start
        except (TimeoutError, ValueError) as error:
            pytest.exit(f"The deployment is not ready within a minute: {error}", returncode=1)
        yield Deployment(url.rstrip("/"), os.environ["SMOKE_KEY"])
        return
    with demo_server() as address:
        yield Deployment(address, LOCAL_KEY)


@pytest.fixture(scope="module")
def client(deployment: Deployment) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{deployment.url}/v1", api_key=deployment.key) as client:
        yield client


@pytest.fixture(scope="module")
def model(client: OpenAI) -> str:
    [model] = client.models.list()
    return model.id


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
def test_what_is_open_is_there(deployment: Deployment, path: str) -> None:
    assert httpx.get(f"{deployment.url}{path}", timeout=30).status_code == 200


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/generate_text", "/v1/score"])
def test_nobody_else_is_let_in(deployment: Deployment, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer sk-guess"}):
        answer = httpx.post(f"{deployment.url}{path}", json={"prompt": "a"}, headers=headers, timeout=30)
        assert answer.status_code in (401, 403)


def test_a_stranger_sees_no_models(deployment: Deployment) -> None:
    stranger = OpenAI(base_url=f"{deployment.url}/v1", api_key="sk-guess", max_retries=0)
    with stranger, pytest.raises((openai.AuthenticationError, openai.PermissionDeniedError)):
        stranger.models.list()


def test_the_model_tells_what_it_is(client: OpenAI, model: str) -> None:
    assert client.models.retrieve(model).id == model


def test_a_completion(client: OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="Once upon a time", max_tokens=8, temperature=0)
    [choice] = answer.choices
    assert (answer.object, answer.model) == ("text_completion", model)
    assert choice.finish_reason in ("length", "stop")
    assert answer.usage is not None
    assert 0 <= answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_is_the_same_text(client: OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**fields)
    chunks = list(client.completions.create(**fields, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_chat(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=CHAT, max_tokens=8, seed=1)
    pieces = list(client.chat.completions.create(model=model, messages=CHAT, max_tokens=8, seed=1, stream=True))
    assert answer.choices[0].message.role == "assistant"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == answer.choices[0].message.content


def test_the_contract_of_the_tutorials(deployment: Deployment) -> None:
    body = {"prompt": "Once upon a time", "max_length": 20, "seed": 7}
    headers = {"Authorization": f"Bearer {deployment.key}"}
    answer = httpx.post(f"{deployment.url}/generate_text", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200
    assert "x-request-id" in answer.headers
    [text] = answer.json()
    assert text["generated_text"].startswith("Once upon a time")


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"max_tokens": 1_000_000}, openai.BadRequestError, "invalid_value"),
        ({"temperature": -1}, openai.BadRequestError, "invalid_value"),
        ({"extra_body": {"colour": 1}}, openai.BadRequestError, "invalid_value"),
        ({"model": "gpt-5"}, openai.NotFoundError, "model_not_found"),
    ],
)
def test_what_is_wrong_is_told(
    client: OpenAI, model: str, fields: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        client.completions.create(**{"model": model, "prompt": "a", **fields})
    assert caught.value.code == code
