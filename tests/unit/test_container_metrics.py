"""What Prometheus reads, counted by an application over an engine whose every token is known in advance."""

from collections.abc import Iterator

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from handler.app import create_app
from handler.container.metrics import Metrics, MetricsMiddleware
from handler.loading import ModelLoading
from tests.fake_engine import FakeEngine
from tests.services import VERSION, VOCABULARY, make_settings, running_service

BODY = {"prompt": [65, 66], "max_tokens": 3, "temperature": 0}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(vocabulary_size=VOCABULARY)


@pytest.fixture
def client(metrics: Metrics, engine: FakeEngine) -> Iterator[TestClient]:
    settings = make_settings(max_body_bytes=1000)
    with running_service(engine, completed=metrics.completed) as service:
        loading = ModelLoading(lambda: service)
        loading.wait(None)
        app = create_app(settings, loading)
        app.add_middleware(MetricsMiddleware, metrics=metrics)
        metrics.watch(loading.services, lambda: 2)
        yield TestClient(app, raise_server_exceptions=False)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Each of our own samples' value, by its name and the values of its labels."""
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("gpt2_") and not sample.name.endswith("_created")
    }


def test_requests_are_counted_by_route_and_status_whatever_was_asked_for(
    client: TestClient, metrics: Metrics, engine: FakeEngine
) -> None:
    client.post("/v1/completions", json=BODY)
    client.post("/v1/completions", json=BODY | {"colour": 1})
    client.post("/v1/completions", json=BODY | {"prompt": "a" * 1000})
    client.get("/v1/models/tiny")
    client.get("/v1/models/another")
    client.get("/secret?prompt=secret")
    client.get("/readyz")
    engine.fail_with = RuntimeError("a bug")
    client.post("/v1/completions", json=BODY)

    requests = {key[1:]: value for key, value in samples(metrics).items() if key[0] == "gpt2_requests_total"}
    assert requests == {
        ("/v1/completions", "200"): 1,
        ("/v1/completions", "400"): 1,
        ("/v1/completions", "500"): 1,
        ("none", "413"): 1,  # refused before it was looked at
        ("/v1/models/{model}", "200"): 1,
        ("/v1/models/{model}", "404"): 1,
        ("none", "404"): 1,
        ("/readyz", "200"): 1,
    }


def test_a_completion_is_measured_once(client: TestClient, metrics: Metrics) -> None:
    client.post("/v1/completions", json=BODY | {"n": 2})
    metrics.settled(done=True)
    found = samples(metrics)

    counts = {key: value for key, value in found.items() if key[0].endswith(("_total", "_count"))}
    assert counts == {
        ("gpt2_requests_total", "/v1/completions", "200"): 1,
        ("gpt2_prompt_tokens_total", "tiny"): 2,
        ("gpt2_completion_tokens_total", "tiny"): 6,
        ("gpt2_messages_total", "done"): 1,
        ("gpt2_seconds_count", "tiny"): 1,
        ("gpt2_queue_seconds_count", "tiny"): 1,
        ("gpt2_time_to_first_token_seconds_count", "tiny"): 1,
        ("gpt2_time_between_tokens_seconds_count", "tiny"): 1,
        ("gpt2_batch_size_count", "tiny"): 1,
    }
    assert found["gpt2_batch_size_sum", "tiny"] == 2
    assert 0 < found["gpt2_time_to_first_token_seconds_sum", "tiny"] <= found["gpt2_seconds_sum", "tiny"]


def test_how_busy_it_is_is_asked_when_prometheus_asks(client: TestClient, metrics: Metrics) -> None:
    gauges = {key: value for key, value in samples(metrics).items() if not key[0].endswith(("_total", "_bucket"))}
    assert gauges == {
        ("gpt2_requests_in_flight",): 0,
        ("gpt2_messages_in_flight",): 2,
        ("gpt2_choices_running", "tiny", VERSION): 0,
        ("gpt2_choices_waiting", "tiny", VERSION): 0,
        ("gpt2_places", "tiny", VERSION): 8,
        ("gpt2_cache_use_ratio", "tiny", VERSION): 0,
    }
