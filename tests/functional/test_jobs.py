"""Jobs over HTTP: accepted at once, answered once, and found again."""

import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from handler.app import create_app
from handler.errors import DeadlineExceededError, NoSuchObjectError
from handler.loading import ModelLoading
from handler.work.background import ATTEMPTS, Background
from handler.work.job_runner import WRITE_SECONDS, JobRunner
from tests.fake_engine import FakeEngine
from tests.functional.batch_place import CountingEngine, Place, greedy, running_place
from tests.services import VOCABULARY, make_settings
from tests.serving import wait_until

BODY = {"prompt": "She", "max_tokens": 5, "temperature": 0}


@pytest.fixture
def engine() -> CountingEngine:
    return CountingEngine(vocabulary_size=VOCABULARY)


@pytest.fixture
def place(aws: str, engine: FakeEngine) -> Iterator[Place]:
    with running_place(engine) as place:
        yield place


def ask(place: Place, body: Any = BODY, prefer: str = "respond-async", **headers: str) -> Any:
    return place.client.post("/v1/completions", json=body, headers={"Prefer": prefer, **headers})


def run(place: Place, job_id: str, deadline: float | None = None) -> str:
    return JobRunner(place.loading, place.storage).run(job_id, deadline).status


def test_a_job_is_accepted_at_once_and_answered_later(place: Place, engine: CountingEngine) -> None:
    answer = ask(place)
    job = answer.json()
    assert answer.status_code == 202
    assert {name: answer.headers[name] for name in ("location", "preference-applied", "retry-after")} == {
        "location": f"/v1/jobs/{job['id']}",
        "preference-applied": "respond-async",
        "retry-after": "1",
    }
    assert job == {
        "id": job["id"],
        "object": "job",
        "endpoint": "/v1/completions",
        "status": "queued",
        "created_at": job["created_at"],
        "response": None,
    }
    assert place.client.get(answer.headers["location"]).json() == job
    assert engine.prompts == 0

    for _ in range(2):  # delivered twice, answered once
        assert run(place, job["id"]) == "completed"
    assert engine.prompts == 1
    done = place.client.get(answer.headers["location"]).json()
    assert done == job | {"status": "completed", "response": done["response"]}
    assert done["response"]["status_code"] == 200
    assert done["response"]["body"]["choices"][0]["text"] == greedy("She", 5)


def test_a_job_needs_no_model_to_be_accepted(place: Place) -> None:
    def never() -> Any:
        raise AssertionError("nobody waits for the model")

    app = create_app(make_settings(results_bucket="results"), ModelLoading(never))
    assert TestClient(app).post("/v1/completions", json=BODY, headers={"Prefer": "respond-async"}).status_code == 202


@pytest.mark.parametrize("prefer", ["respond-async", "Respond-Async", "wait=10, respond-async", "respond-async; x=1"])
def test_a_preference_is_understood_as_the_rfc_has_it(place: Place, prefer: str) -> None:
    assert ask(place, prefer=prefer).status_code == 202


@pytest.mark.parametrize("prefer", ["", "wait=10", "respond-asynchronously"])
def test_who_does_not_ask_for_it_waits(place: Place, prefer: str) -> None:
    assert ask(place, prefer=prefer).json()["choices"][0]["text"] == greedy("She", 5)


def test_the_same_key_is_the_same_job(place: Place, engine: CountingEngine) -> None:
    first, again, other = (ask(place, **{"Idempotency-Key": key}).json() for key in ("one", "one", "two"))
    assert first == again
    assert other["id"] != first["id"]
    run(place, first["id"])
    done = ask(place, **{"Idempotency-Key": "one"}).json()
    assert (done["id"], done["status"]) == (first["id"], "completed")
    assert engine.prompts == 1

    refused = ask(place, {**BODY, "prompt": "He"}, **{"Idempotency-Key": "one"})
    assert refused.status_code == 409
    assert refused.json()["error"]["message"] == (
        "`Idempotency-Key` has been used for a request that asked something else."
    )
    assert ask(place, **{"Idempotency-Key": "x" * 256}).status_code == 400


def test_a_request_that_is_wrong_is_refused_at_once_as_far_as_that_can_be_seen(place: Place) -> None:
    assert ask(place, {"prompt": "a", "colour": 1}).json()["error"]["message"] == "Unknown field: `colour`."
    assert ask(place, {**BODY, "stream": True}).json()["error"]["message"] == (
        "`stream` must be false where the answer comes later; given: true."
    )

    # How many tokens a prompt has is known when the model has read it.
    job = ask(place, {"prompt": "a", "max_tokens": 50, "n": 9}).json()
    assert run(place, job["id"]) == "failed"
    done = place.client.get(f"/v1/jobs/{job['id']}").json()
    assert (done["status"], done["response"]["status_code"]) == ("failed", 400)
    assert done["response"]["body"]["error"]["param"] == "n"


def test_a_job_that_time_was_too_short_for_is_queued_still(place: Place) -> None:
    job = ask(place).json()
    with pytest.raises(DeadlineExceededError):
        run(place, job["id"], time.time() + WRITE_SECONDS - 1)
    assert place.client.get(f"/v1/jobs/{job['id']}").json() == job
    assert run(place, job["id"]) == "completed"


def test_there_is_no_such_job(place: Place) -> None:
    answer = place.client.get("/v1/jobs/job_0")
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "There is no such job.")
    with pytest.raises(NoSuchObjectError):
        run(place, "job_0")


def test_a_prompt_is_kept_as_it_came(place: Place) -> None:
    body = {"prompt": "“Well — naïve café!” 日本語 🙂", "max_tokens": 2, "logit_bias": {"5": 1.5}}
    job = ask(place, body).json()
    kept = place.storage.read(f"jobs/requested/{job['id']}.json")
    assert kept is not None
    assert json.loads(kept)["body"] == body
    assert run(place, job["id"]) == "completed"


def test_half_a_surrogate_pair_is_refused_where_it_matters_and_no_more(place: Place) -> None:
    def done(body: bytes) -> Any:
        headers = {"Prefer": "respond-async", "Content-Type": "application/json"}
        answer = place.client.post("/v1/completions", content=body, headers=headers)
        assert answer.status_code == 202
        run(place, answer.json()["id"])
        return place.client.get(answer.headers["location"]).json()["response"]

    assert done(b'{"prompt": "She", "user": "\\ud800"}')["status_code"] == 200
    assert done(b'{"prompt": "\\ud800"}')["body"]["error"]["message"] == (
        "`prompt` must be valid Unicode; given: the lone surrogate U+D800 at position 0."
    )


def test_in_the_background_a_job_fails_that_cannot_be_answered(
    place: Place, engine: CountingEngine, log: io.StringIO
) -> None:
    engine.fail_with = RuntimeError("She said")
    job = ask(place).json()
    Background(place.loading, "results", pause=0).start_job(job["id"])
    Background(place.loading, "results", pause=0).start_job("job_0")  # there is none, and nobody asks for it for ever
    wait_until(lambda: {"job_0", job["id"]}.isdisjoint(thread.name for thread in threading.enumerate()))

    done = place.client.get(f"/v1/jobs/{job['id']}").json()
    assert (done["status"], done["response"]["status_code"], engine.prompts) == ("failed", 500, ATTEMPTS)
    assert done["response"]["body"]["error"]["message"] == "The request could not be answered: RuntimeError."
    assert "She said" not in log.getvalue()
