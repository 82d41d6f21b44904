"""Bodies that are too large, cut short, or such as no server lets through."""

import json
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.exchanges import error
from tests.fake_engine import FakeEngine
from tests.services import VOCABULARY, make_settings, running_app


def sent_by(
    app: FastAPI, events: list[Any], *, path: str = "/v1/completions", headers: Sequence[Any] = ()
) -> list[Any]:
    """What the application sends to whom these events come from, the last one first."""
    sent = []

    async def receive() -> Any:
        return events.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    anyio.run(lambda: app(scope, receive, send))
    return sent


def test_a_body_too_large_is_refused_by_its_declared_length() -> None:
    with running_app(settings=make_settings(max_body_bytes=1000)) as app:
        response = TestClient(app).post("/v1/completions", content=b"a" * 2000)

    message = "The body may have at most 1000 bytes; given: at least 2000."
    assert (response.status_code, response.json()) == (413, error(message, "payload_too_large"))


def test_a_body_of_undeclared_length_is_refused_where_it_exceeds_the_limit() -> None:
    pieces = [{"type": "http.request", "body": b"a" * 400, "more_body": True} for _ in range(20)]
    with running_app(settings=make_settings(max_body_bytes=1000)) as app:
        sent = sent_by(app, pieces)

    message = "The body may have at most 1000 bytes; given: at least 1200."
    assert json.loads(sent[1]["body"]) == error(message, "payload_too_large")
    assert len(pieces) == 17


def test_half_a_body_is_not_taken_for_the_whole_when_its_sender_has_gone() -> None:
    engine = FakeEngine(vocabulary_size=VOCABULARY)
    events = [{"type": "http.disconnect"}, {"type": "http.request", "body": b'{"prompt": "a"}', "more_body": True}]
    with running_app(engine) as app:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        sent = sent_by(app, events, headers=headers)
    assert (sent, engine.chunks) == ([], [])


@pytest.mark.parametrize(
    ("path", "headers", "status", "message"),
    [
        ("/v1/completions", [(b"content-length", b"9" * 5000)], 413, f"given: at least {'9' * 20}."),
        ("/\ud800", [], 404, r"There is nothing at POST /\ud800."),
    ],
)
def test_what_no_server_lets_through_is_refused_where_an_event_brings_it(
    path: str, headers: Any, status: int, message: str
) -> None:
    with running_app() as app:
        sent = sent_by(app, [{"type": "http.request", "body": b"", "more_body": False}], path=path, headers=headers)

    assert sent[0]["status"] == status
    assert message in json.loads(sent[1]["body"])["error"]["message"]
