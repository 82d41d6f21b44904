"""Scores, explanations, tokens and models: what the service tells beside text."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.fake_engine import FakeEngine, next_token
from tests.models import tiny_tokenizer
from tests.services import END_OF_TEXT, VERSION, VOCABULARY, running_app

TOKENIZER = tiny_tokenizer(VOCABULARY)

# The fake engine gives one token a logit of 5 and all others one of 0.
NORMALIZER = math.log(math.exp(5) + VOCABULARY - 1)
HIT, MISS = 5 - NORMALIZER, -NORMALIZER


@pytest.fixture
def client() -> Iterator[TestClient]:
    with running_app() as app:
        yield TestClient(app, raise_server_exceptions=False)


def logprobs(tokens: Sequence[int]) -> list[float]:
    """The log-probability of each token as the beginning of a document."""
    before = [END_OF_TEXT, *tokens]
    return [HIT if next_token(before[: i + 1], VOCABULARY) == token else MISS for i, token in enumerate(tokens)]


def refusal(client: TestClient, path: str, body: Any) -> tuple[int, str, str]:
    # Not `json=`, which encodes, and half a character cannot be.
    answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    return answer.status_code, answer.json()["error"]["param"], answer.json()["error"]["message"]


def test_a_text_is_scored_as_a_document(client: TestClient) -> None:
    tokens = TOKENIZER.encode("the sea")
    expected = logprobs(tokens)
    answer = client.post("/v1/score", json={"input": "the sea", "model": "tiny", "tokens": True}).json()

    [scored] = answer.pop("data")
    assert answer == {
        "object": "list",
        "model": "tiny",
        "system_fingerprint": f"{VERSION}-fake",
        "usage": {"prompt_tokens": len(tokens), "total_tokens": len(tokens)},
    }
    assert [(token["id"], token["text"]) for token in scored["tokens"]] == [
        (token, TOKENIZER.token_text(token)) for token in tokens
    ]
    assert [token["logprob"] for token in scored["tokens"]] == pytest.approx(expected, abs=1e-6)
    assert scored["log_likelihood"] == pytest.approx(sum(expected), abs=1e-5)
    assert scored["perplexity"] == pytest.approx(math.exp(-sum(expected) / len(expected)), rel=1e-5)
    assert (scored["index"], scored["token_count"]) == (0, len(tokens))


def test_texts_and_their_ids_score_alike_and_in_order(client: TestClient) -> None:
    texts = ["the sea", "he said so"]
    ids = [TOKENIZER.encode(text) for text in texts]
    by_text, by_ids = (client.post("/v1/score", json={"input": given}).json()["data"] for given in (texts, ids))

    assert by_text == by_ids
    assert [scored["log_likelihood"] for scored in by_text] == pytest.approx([sum(logprobs(each)) for each in ids])
    assert [scored["tokens"] for scored in by_text] == [None, None]
    assert client.post("/v1/score", json={"input": ids[1]}).json()["data"][0]["token_count"] == len(ids[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "`input[0]` must not be empty; given: no tokens."),
        (["the sea", ""], "`input[1]` must not be empty; given: no tokens."),
        ([], "`input`: input should be a string, a list of strings, a list of token ids or a list of such lists"),
        ([5, VOCABULARY], f"`input` may hold token ids from 0 to {VOCABULARY - 1}; given: {VOCABULARY}."),
        ([1] * 64, "`input` may have at most 64 tokens, this model's context; given: 65."),
        (["a"] * 5, "`input` may hold at most 4 texts; given: 5."),
    ],
)
def test_what_cannot_be_scored_is_told(client: TestClient, given: Any, message: str) -> None:
    status, param, said = refusal(client, "/v1/score", {"input": given})
    assert (status, param) == (400, "input")
    assert said.startswith(message)


def signal(tokens: Sequence[int], vocabulary: int = VOCABULARY) -> int:
    """A rule by which one token alone decides: after a 9, wherever it is, comes 5; else 3."""
    return 5 if 9 in tokens else 3


def test_a_token_that_alone_decides_has_all_of_the_contribution() -> None:
    with running_app(FakeEngine(vocabulary_size=VOCABULARY, rule=signal)) as app:
        body = {"prompt": [1, 9, 2, 4], "top": 2}
        answer = TestClient(app).post("/v1/explain", json=body).json()

    assert [token["id"] for token in answer["prompt"]] == body["prompt"]
    [explained] = answer["continuation"]
    assert (explained["id"], explained["text"]) == (5, TOKENIZER.token_text(5))
    # Without the 9 the logit of 5 falls from 5 to 0, and the sum over the vocabulary stays what it is.
    assert explained["contributions"] == pytest.approx([0, 5, 0, 0], abs=1e-5)
    assert explained["logprob"] == pytest.approx(HIT, abs=1e-6)
    assert explained["probability"] == pytest.approx(math.exp(HIT))
    assert explained["entropy"] == pytest.approx(-math.exp(HIT) * HIT - (1 - math.exp(HIT)) * MISS, abs=1e-5)
    assert [(other["id"], other["probability"]) for other in explained["alternatives"]] == [
        (5, pytest.approx(math.exp(HIT))),
        (0, pytest.approx(math.exp(MISS))),
    ]


def test_each_token_of_a_continuation_is_explained_after_those_before_it() -> None:
    with running_app(FakeEngine(vocabulary_size=VOCABULARY, rule=signal)) as app:
        body = {"prompt": [1, 2], "continuation": [3, 9, 5]}
        answer = TestClient(app).post("/v1/explain", json=body).json()

    assert [explained["id"] for explained in answer["continuation"]] == [3, 9, 5]
    assert [explained["logprob"] for explained in answer["continuation"]] == pytest.approx([HIT, MISS, HIT], abs=1e-6)
    assert all(explained["contributions"] == pytest.approx([0, 0]) for explained in answer["continuation"])


def test_the_only_token_of_a_prompt_can_be_left_out() -> None:
    with running_app(FakeEngine(vocabulary_size=VOCABULARY, rule=signal)) as app:
        answer = TestClient(app).post("/v1/explain", json={"prompt": [9]}).json()
    assert answer["continuation"][0]["contributions"] == pytest.approx([5], abs=1e-5)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"prompt": ""}, "prompt", "`prompt` must not be empty"),
        ({"prompt": "a", "continuation": ""}, "continuation", "`continuation` must not be empty"),
        ({"prompt": "a", "continuation": []}, "continuation", "`continuation`: input should be a string or a list of"),
        ({"prompt": "a", "top": 21}, "top", "`top`: input should be less than or equal to 20; given: 21."),
        (
            {"prompt": [1] * 100, "continuation": [1] * 29},
            "prompt",
            "together may have at most 128 tokens here; given: 100 and 29",
        ),
        ({"prompt": [1] * 64}, "continuation", "`prompt` and `continuation` together may have at most 64 tokens"),
    ],
)
def test_what_cannot_be_explained_is_told(client: TestClient, body: Any, param: str, message: str) -> None:
    status, field, said = refusal(client, "/v1/explain", body)
    assert (status, field) == (400, param)
    assert message in said


def test_text_to_tokens_and_back(client: TestClient) -> None:
    text = "He said: naïve café 🙂<|endoftext|>"
    tokens = TOKENIZER.encode(text)
    answer = client.post("/tokenize", json={"text": text}).json()

    assert answer == {"count": len(tokens), "tokens": tokens, "texts": [TOKENIZER.token_text(t) for t in tokens]}
    assert tokens[-1] == END_OF_TEXT
    assert client.post("/detokenize", json={"tokens": tokens}).json() == {"text": text}
    assert client.post("/tokenize", json={"text": ""}).json() == {"count": 0, "tokens": [], "texts": []}
    assert client.post("/detokenize", json={"tokens": []}).json() == {"text": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"text": "\ud800"}, "text"),
        ("/detokenize", {"tokens": [VOCABULARY]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/tokenize", {"text": "a", "model": "gpt-5"}, "model"),
    ],
)
def test_what_is_no_text_and_no_token_is_told(client: TestClient, path: str, body: Any, param: str) -> None:
    status, field, _ = refusal(client, path, body)
    assert (status, field) == (404 if param == "model" else 400, param)


def test_a_model_tells_what_it_is(client: TestClient) -> None:
    facts = client.get("/v1/models/tiny").json()
    [listed] = client.get("/v1/models").json()["data"]

    assert {name: facts[name] for name in listed} == listed
    assert (facts["version"], facts["layout"], facts["dtype"]) == (VERSION, None, "F32")
    assert facts["architecture"]["parameters"] == 1000
    assert client.get("/v1/models/gpt-5").json()["error"]["message"] == (
        "`model`: 'tiny' is served here; given: 'gpt-5'."
    )
