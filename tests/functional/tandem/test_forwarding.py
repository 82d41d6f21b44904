"""Requests that the front sends on: what goes there, what comes back, and what is answered here after all."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from handler.tandem.forwarding import PATHS
from handler.tandem.lookout import Lookout
from handler.tandem.rules import Belief
from tests.functional.tandem.pair import (
    BODY,
    SECRET,
    TEXT,
    GpuService,
    by_gpu,
    fake_engine,
    front,
    gpu_service,
    lookout_of,
)
from tests.log_lines import logged
from tests.services import VERSION, make_settings, running_app
from tests.serving import wait_until


@pytest.fixture
def app(service: GpuService) -> Iterator[FastAPI]:
    with front(service) as app:
        yield app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def test_the_service_answers_what_the_model_answers(client: TestClient) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/generate_text": {"prompt": "the sea", "max_length": 20, "seed": 7},
        "/v1/completions": BODY,
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "sea?"}], "max_tokens": 4},
        "/v1/score": {"input": "the sea"},
        "/v1/explain": {"prompt": [65], "continuation": [66]},
    }
    assert bodies.keys() == PATHS
    for path, body in bodies.items():
        answer = client.post(path, json=body)
        assert (path, answer.status_code, by_gpu(answer.headers)) == (path, 200, True)


def outcomes(log: StringIO) -> list[str]:
    """What the log says became of the requests that were sent on."""
    return [line["outcome"] for line in logged(log, "forwarded")]


def test_its_answer_is_passed_on_as_it_is(client: TestClient, log: StringIO) -> None:
    answer = client.post("/v1/completions", json=BODY, headers={"x-request-id": "tale-1"})
    assert outcomes(log) == ["answered"]

    assert answer.json()["choices"][0]["text"] == TEXT
    assert answer.headers.pop("server-timing").startswith("load;dur=")
    assert dict(answer.headers) == {
        "content-type": "application/json",
        "content-length": str(len(answer.content)),
        "x-model-version": VERSION,
        "x-request-id": "tale-1",
        "x-served-by": "gpu",
    }


def test_only_what_is_needed_is_sent_on(client: TestClient, service: GpuService) -> None:
    not_theirs = {"authorization": "Bearer sk-ada", "cookie": "a=b", "x-tandem-principal": "anybody"}
    client.post("/v1/completions", json=BODY, headers={"x-request-id": "tale-1", **not_theirs})

    [asked] = service.asked
    assert asked.pop("x-tandem-principal") != "anybody"
    of_any_client = {"host", "accept", "accept-encoding", "connection", "user-agent", "content-length"}
    assert asked.keys() == {"content-type", "x-request-id", *of_any_client}
    assert (asked["accept-encoding"], asked["x-request-id"]) == ("identity", "tale-1")


def test_everything_else_is_answered_here(client: TestClient, service: GpuService) -> None:
    assert client.get("/v1/models").status_code == 200
    assert client.post("/tokenize", json={"text": "the sea"}).status_code == 200
    job = client.post("/v1/completions", json=BODY, headers={"Prefer": "respond-async"})
    assert job.json()["error"]["code"] == "storage_unavailable"
    assert service.asked == []


@pytest.mark.parametrize(("body", "kind"), [({**BODY, "max_tokens": 5000}, "application/json"), (BODY, "text/plain")])
def test_what_is_wrong_with_a_request_is_said_there(client: TestClient, body: Any, kind: str) -> None:
    answer = client.post("/v1/completions", json=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"], by_gpu(answer.headers)) == (400, "invalid_value", True)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ((429, True), ("declined", Belief.AWAKE)),
        ((404, True), ("declined", Belief.AWAKE)),
        ((401, True), ("failed", Belief.SUSPECT)),
        ((500, True), ("failed", Belief.SUSPECT)),
        ((503, True), ("failed", Belief.SUSPECT)),
        ((503, False), ("failed", Belief.SUSPECT)),
        ((200, False), ("failed", Belief.SUSPECT)),
        ((301, False), ("failed", Belief.SUSPECT)),
        ((400, False), ("failed", Belief.SUSPECT)),
    ],
)
def test_what_the_service_does_not_answer_is_answered_here(
    app: FastAPI, service: GpuService, log: StringIO, given: tuple[int, bool], outcome: tuple[str, Belief]
) -> None:
    service.answer = given
    with TestClient(app) as client:
        answer = client.post("/v1/completions", json=BODY)
    assert (answer.json()["choices"][0]["text"], by_gpu(answer.headers)) == (TEXT, False)
    assert len(service.asked) == 1
    assert (*outcomes(log), lookout_of(app).belief) == outcome


def test_an_answer_that_breaks_off_is_begun_anew_here(client: TestClient, service: GpuService) -> None:
    service.breaks_after = 0
    answer = client.post("/v1/completions", json=BODY)
    assert (answer.json()["choices"][0]["text"], by_gpu(answer.headers)) == (TEXT, False)


def test_a_service_that_has_recovered_is_found_again(client: TestClient, service: GpuService) -> None:
    service.answer = (502, False)
    assert not by_gpu(client.post("/v1/completions", json=BODY).headers)
    service.recover()
    wait_until(lambda: by_gpu(client.post("/v1/completions", json=BODY).headers))


def test_a_service_that_is_gone_costs_nothing_but_the_attempt() -> None:
    with ExitStack() as there:
        service = there.enter_context(gpu_service())
        with front(service) as app, TestClient(app) as client:
            assert by_gpu(client.post("/v1/completions", json=BODY).headers)
            there.close()
            for _ in range(3):
                answer = client.post("/v1/completions", json=BODY)
                assert (answer.json()["choices"][0]["text"], by_gpu(answer.headers)) == (TEXT, False)
            assert not lookout_of(app).awake()


def test_what_was_seen_before_a_snapshot_is_not_believed_after_it(
    service: GpuService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    settings = make_settings(gpu_url=service.address, tandem_key=SECRET)
    others = set(threading.enumerate())
    with running_app(fake_engine(), settings) as app, TestClient(app) as client:
        assert all(thread.name != "look at gpu service" for thread in {*threading.enumerate()} - others)
        assert lookout_of(app).belief is Belief.UNKNOWN
        assert not by_gpu(client.post("/v1/completions", json=BODY).headers)
        wait_until(lookout_of(app).awake)


def test_a_look_that_was_frozen_saw_the_past(service: GpuService) -> None:
    clock = itertools.count(step=10.0)
    lookout = Lookout(service.address, "tiny", lambda: next(clock))
    lookout.look()
    wait_until(lambda: all(thread.name != "look at gpu service" for thread in threading.enumerate()))
    assert lookout.belief is Belief.UNKNOWN


def test_a_service_with_another_model_is_not_the_one(service: GpuService) -> None:
    lookout = Lookout(service.address, "another")
    lookout.look()
    wait_until(lambda: lookout.belief is Belief.ASLEEP)
