"""Whole requests and responses of each route, over an engine whose every token is known in advance."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from handler.errors import EngineUnavailableError, NotInRegistryError
from handler.inference.scheduler import Scheduler
from handler.loading import ModelLoading
from handler.service import TextService
from tests.exchanges import error
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.services import MANIFEST, VERSION, VOCABULARY, make_settings, running_app

TOKENIZER = tiny_tokenizer(VOCABULARY)


@pytest.fixture
def app() -> Iterator[FastAPI]:
    with running_app() as app:
        yield app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def output(prompt: str, count: int) -> str:
    return TOKENIZER.decode(continuation(TOKENIZER.encode(prompt), count, VOCABULARY))


def test_generate_text_answers_as_the_tutorials_do(client: TestClient) -> None:
    length = len(TOKENIZER.encode("the sea"))
    body = {"prompt": "the sea", "max_length": length + 5, "do_sample": False}

    assert client.post("/generate_text", json=body).json() == [{"generated_text": "the sea" + output("the sea", 5)}]


def test_generate_text_gives_as_many_texts_as_asked_for(client: TestClient) -> None:
    body = {"prompt": "the sea", "max_length": 30, "num_return_sequences": 3, "seed": 1}
    first, again = (client.post("/generate_text", json=body).json() for _ in range(2))

    assert first == again
    assert len({answer["generated_text"] for answer in first}) == 3
    assert all(answer["generated_text"].startswith("the sea") for answer in first)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"max_length": 3}, "max_length", "the prompt has 3 tokens already, given: 3."),
        ({"num_return_sequences": 2, "do_sample": False}, "num_return_sequences", "must be 1 without sampling"),
        ({"num_return_sequences": 5}, "num_return_sequences", "`num_return_sequences` times the number of prompts"),
        ({"max_length": 54}, "max_length", "`max_length` may be at most 53 with a prompt of 3 tokens; given: 54."),
        ({"prompt": "a" * 63, "max_length": 65}, "max_length", "may be at most 64 with a prompt of"),
    ],
)
def test_generate_text_refuses_what_cannot_be_done(
    client: TestClient, fields: dict[str, Any], param: str, message: str
) -> None:
    response = client.post("/generate_text", json={"prompt": "the sea", "max_length": 20, **fields})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert message in response.json()["error"]["message"]


def test_a_completion_as_a_whole(client: TestClient) -> None:
    body = {"model": "tiny", "prompt": "the sea", "max_tokens": 5, "temperature": 0, "user": "ada"}
    answer = client.post("/v1/completions", json=body).json()

    assert answer.pop("id").startswith("cmpl-")
    assert isinstance(answer.pop("created"), int)
    choice = {"index": 0, "text": output("the sea", 5), "logprobs": None, "finish_reason": "length", "cut_by": None}
    assert answer == {
        "object": "text_completion",
        "model": "tiny",
        "system_fingerprint": f"{VERSION}-fake",
        "choices": [choice],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }


@pytest.mark.parametrize(
    ("prompt", "count"),
    [(None, 1), ("the sea", 1), (["the", " sea"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2), ([[]], 1), (["", "a"], 2)],
)
def test_every_form_of_prompt(client: TestClient, prompt: Any, count: int) -> None:
    body = {"prompt": prompt, "max_tokens": 2, "n": 2}
    answer = client.post("/v1/completions", json=body).json()

    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * count))


def test_logprobs_have_the_shape_of_the_openai_api(client: TestClient) -> None:
    body = {"prompt": "the sea", "max_tokens": 2, "temperature": 0, "logprobs": 2, "echo": True}
    (choice,) = client.post("/v1/completions", json=body).json()["choices"]

    logprobs = choice["logprobs"]
    tokens = [*TOKENIZER.encode("the sea"), *continuation(TOKENIZER.encode("the sea"), 2, VOCABULARY)]
    assert logprobs["tokens"] == [TOKENIZER.token_text(token) for token in tokens]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["text_offset"][0] == 0
    for token, logprob, top in list(
        zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
    )[1:]:
        assert top[token] == logprob <= 0
        assert 2 <= len(top) <= 3


def test_logit_bias_names_tokens_by_their_ids(client: TestClient) -> None:
    body = {"prompt": "the sea", "max_tokens": 3, "temperature": 0, "logit_bias": {"65": 100}}
    (choice,) = client.post("/v1/completions", json=body).json()["choices"]

    assert choice["text"] == TOKENIZER.decode([65] * 3)


def test_the_models_list(client: TestClient) -> None:
    model = {"id": "tiny", "object": "model", "created": 1795435200, "owned_by": "made for a test"}
    assert client.get("/v1/models").json() == {"object": "list", "data": [model]}


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "model": "tiny", "version": VERSION}


def test_without_its_model_the_process_lives_but_is_not_ready(app: FastAPI, client: TestClient) -> None:
    def load() -> TextService:
        raise NotInRegistryError("s3://models/models/tiny/aliases/live does not exist")

    app.state.loading = ModelLoading(load)
    expected = error(
        "The model cannot be loaded; the service's log says why.", "model_unavailable", kind="server_error"
    )
    assert client.get("/healthz").status_code == 200
    for response in (client.get("/readyz"), client.post("/v1/completions", json={"prompt": "a"})):
        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
    assert client.post("/v1/completions", json={"prompt": "a"}).json() == expected


class BeyondRepair(Scheduler):
    def check(self) -> None:
        raise EngineUnavailableError("The engine has failed 3 times in a row.")


def test_with_an_engine_beyond_repair_the_process_lives_but_is_not_ready(app: FastAPI, client: TestClient) -> None:
    scheduler = BeyondRepair(FakeEngine(vocabulary_size=VOCABULARY))
    service = TextService(MANIFEST, TOKENIZER, scheduler, make_settings())
    app.state.loading = ModelLoading(lambda: service)
    app.state.loading.wait(None)
    expected = error("The engine has failed 3 times in a row.", "engine_unavailable", kind="server_error")
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (503, expected)
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nothing", 404, "There is nothing at GET /nothing."),
        ("GET", "/v1/models/", 404, "There is nothing at GET /v1/models/."),
        ("DELETE", "/v1/models", 405, "/v1/models does not answer DELETE."),
    ],
)
def test_what_does_not_exist(client: TestClient, method: str, path: str, status: int, message: str) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.json()) == (status, error(message, None))


def test_another_model_than_the_one_served(client: TestClient) -> None:
    response = client.post("/v1/completions", json={"prompt": "a", "model": "gpt-5"})

    message = "`model`: 'tiny' is served here; given: 'gpt-5'."
    assert (response.status_code, response.json()) == (404, error(message, "model_not_found", "model"))


def test_the_documentation_page_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/docs").text

    assert "http://" not in page
    assert "https://" not in page
    for name, start in (
        ("swagger-ui-bundle.js", b"/*"),
        ("swagger-ui.css", b".swagger"),
        ("favicon-32x32.png", b"\x89PNG"),
    ):
        assert f'"docs/{name}"' in page
        assert client.get(f"/docs/{name}").content.startswith(start)
    assert client.get("/openapi.json").json()["info"]["title"] == "GPT-2, serverless"


def test_the_description_tells_of_errors_as_they_are_sent(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    for path in ("/generate_text", "/v1/completions"):
        assert set(paths[path]["post"]["responses"]) == {"200", "4XX", "5XX"}
        assert paths[path]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/healthz"]["get"]
