"""`sam local start-api`: the routes of the template in front of the function in its container, over HTTP."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from lifecycle.local.cloud import LOCAL_KEY
from lifecycle.local.containers import sam_api

pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def api(cloud: dict[str, str]) -> Iterator[httpx.Client]:
    """A client that brings no key of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with sam_api(port, cloud) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


KEY = {"Authorization": f"Bearer {LOCAL_KEY}"}


def test_completes_text(api: httpx.Client) -> None:
    body = {"prompt": "The old man", "max_tokens": 8, "temperature": 0}
    first, again = (api.post("/v1/completions", json=body, headers=KEY) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json()["usage"] == {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}
    assert first.json()["choices"] == again.json()["choices"]


def test_answers_as_the_first_program_did(api: httpx.Client) -> None:
    answer = api.post("/generate_text", json={"prompt": "Once upon a time", "max_length": 12}, headers=KEY)
    assert answer.status_code == 200, answer.text
    [generated] = answer.json()
    assert generated["generated_text"].startswith("Once upon a time")


def test_model_is_listed_and_ready(api: httpx.Client) -> None:
    assert [model["id"] for model in api.get("/v1/models", headers=KEY).json()["data"]] == ["demo"]
    assert api.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz"])
def test_open_routes_need_no_key(api: httpx.Client, path: str) -> None:
    assert api.get(path).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sk-somebody-else"}])
def test_everything_else_does(api: httpx.Client, headers: dict[str, str]) -> None:
    answer = api.post("/v1/completions", json={"prompt": "The"}, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
