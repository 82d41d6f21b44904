"""`best_of`: the candidates are those `n` would give, and the most probable of them are returned."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.exchanges import events_of
from tests.services import running_app

FIELDS: dict[str, Any] = {"prompt": ["the sea", "he said"], "max_tokens": 8, "seed": 3, "stop": ["e"]}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with running_app() as app:
        yield TestClient(app)


def ask(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/completions", json={**FIELDS, **fields}).json()
    return answer


def mean(choice: dict[str, Any]) -> float:
    logprobs = choice["logprobs"]["token_logprobs"]
    return sum(logprobs) / len(logprobs) if logprobs else float("-inf")


@pytest.mark.parametrize("n", [1, 2])
def test_the_most_probable_candidates_are_returned(client: TestClient, n: int) -> None:
    one = {"prompt": "the sea", "logprobs": 1}
    every = ask(client, **one, n=4)
    best = ask(client, **one, n=n, best_of=4)

    ranked = sorted(every["choices"], key=mean, reverse=True)[:n]
    assert best["choices"] == [{**choice, "index": index} for index, choice in enumerate(ranked)]
    assert best["usage"] == every["usage"]  # all that was generated
    assert len({choice["text"] for choice in every["choices"]}) > 1


def test_each_prompt_has_its_own_best(client: TestClient) -> None:
    together = ask(client, best_of=2)
    alone = [ask(client, prompt=prompt, best_of=2)["choices"][0] for prompt in FIELDS["prompt"]]

    assert together["choices"] == [{**choice, "index": index} for index, choice in enumerate(alone)]
    assert [choice["logprobs"] for choice in together["choices"]] == [None, None]


def test_the_prompt_has_no_say_in_it(client: TestClient) -> None:
    plain, echoed = (ask(client, prompt="the sea", best_of=4, echo=echo, logprobs=0) for echo in (False, True))
    assert echoed["choices"][0]["text"] == "the sea" + plain["choices"][0]["text"]


def test_without_a_choice_nothing_changes(client: TestClient) -> None:
    assert ask(client, n=2, best_of=2)["choices"] == ask(client, n=2)["choices"]
    response = client.post("/v1/completions", json={**FIELDS, "n": 2, "best_of": 2, "stream": True})
    assert events_of(response.text)[-1] == "[DONE]"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 2, "best_of": 1}, "`best_of` must be at least `n`, of which it is a choice; given: 1 and 2."),
        ({"best_of": 2, "stream": True}, "`best_of` must not exceed `n` with `stream`: the best are known only at"),
        ({"best_of": 3}, "`best_of` times the number of prompts may be at most 4; given: 3 times 2."),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(client: TestClient, fields: dict[str, Any], message: str) -> None:
    error = ask(client, **fields)["error"]
    assert (error["param"], error["message"][: len(message)]) == ("best_of", message)
