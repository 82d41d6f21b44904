"""The header `Server-Timing`: where the time of a request went, as a whole and in order."""

import re
import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from handler.app import create_app
from handler.errors import NotInRegistryError
from handler.loading import ModelLoading
from handler.service import TextService
from handler.timing import Timing
from tests.fake_engine import FakeEngine
from tests.services import VOCABULARY, make_settings, running_app, running_service

STEP_SECONDS = 0.02
# Drawn at random, the first token would be the last one now and then.
BODY = {"prompt": "the sea", "max_tokens": 4, "temperature": 0}
ROUTES = {
    "/v1/completions": BODY,
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "sea"}], "max_tokens": 4, "temperature": 0},
    "/generate_text": {"prompt": "the sea", "max_length": 20, "do_sample": False},
}


def slow_engine() -> FakeEngine:
    return FakeEngine(seconds_per_step=STEP_SECONDS, vocabulary_size=VOCABULARY, rule=lambda held, _: len(held))


def timing(client: TestClient, path: str = "/v1/completions", body: Any = BODY) -> dict[str, float]:
    """The header's phases, in their order, in milliseconds; nothing of it is left out."""
    header = client.post(path, json=body).headers["server-timing"]
    phases = [re.fullmatch(r"([a-z_]+);dur=(\d+\.\d)", phase) for phase in header.split(", ")]
    return {phase[1]: float(phase[2]) for phase in phases if phase} if all(phases) else {}


@pytest.mark.parametrize(("path", "body"), ROUTES.items())
def test_the_first_answer_tells_of_the_start_and_the_next_of_itself_alone(path: str, body: Any) -> None:
    with running_app() as app:
        first, second = (timing(TestClient(app), path, body) for _ in range(2))
    assert list(first) == ["load", "queue", "prefill", "decode", "total", "cold_start_first_token"]
    assert list(second) == ["load", "queue", "prefill", "decode", "total"]
    assert first["cold_start_first_token"] > 0


def test_phases_take_their_time_and_are_the_total() -> None:
    with running_app(slow_engine()) as app:
        client = TestClient(app)
        client.get("/healthz")  # what the first request alone pays is no phase
        phases = timing(client)
    milliseconds = STEP_SECONDS * 1000
    assert phases["prefill"] >= milliseconds
    # The first token may be seen late, when the others are on their way.
    assert phases["prefill"] + phases["decode"] >= 4 * milliseconds
    total = phases["total"]
    assert sum(phases[name] for name in ("load", "queue", "prefill", "decode")) <= total + 0.2  # each is rounded


def test_waiting_for_a_place_is_not_reading_the_prompt() -> None:
    told, now = Timing(), time.monotonic()
    told.has_read(submitted=now - 7, admitted=now - 4)
    told.has_read(submitted=now - 2, admitted=now - 1)  # of a request's generations all times count
    queue, prefill = re.findall(r"dur=(\d+)", told.header(whole=False))
    assert (int(queue), int(prefill) // 1000) == (4000, 5)


def test_a_stream_tells_what_is_known_at_its_beginning() -> None:
    with running_app(slow_engine()) as app:
        first, second = (timing(TestClient(app), body={**BODY, "stream": True}) for _ in range(2))
    assert list(first) == ["load", "queue", "prefill", "cold_start_first_token"]
    assert list(second) == ["load", "queue", "prefill"]


def test_what_only_reads_does_not_decode() -> None:
    with running_app() as app:
        client = TestClient(app)
        assert list(timing(client, "/v1/score", {"input": "the sea"})) == ["load", "queue", "prefill", "total"]
        assert list(timing(client, "/v1/explain", {"prompt": "the sea"})) == ["load", "queue", "prefill", "total"]
        assert list(timing(client, "/tokenize", {"text": "the sea"})) == ["load", "total"]


def test_waiting_for_the_model_is_told() -> None:
    with running_service() as service:

        def load() -> TextService:  # begun by the first request
            time.sleep(0.05)
            return service

        phases = timing(TestClient(create_app(make_settings(), ModelLoading(load))))
    assert 50 <= phases["load"] <= phases["total"]


def test_a_refusal_tells_how_far_it_came() -> None:
    def load() -> TextService:
        raise NotInRegistryError("no model")

    client = TestClient(create_app(make_settings(), ModelLoading(load)))
    assert list(timing(client)) == ["load", "total"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/nowhere"])
def test_what_needs_no_model_says_nothing(path: str) -> None:
    with running_app() as app:
        assert "server-timing" not in TestClient(app).get(path).headers
