"""The log's lines, and the metrics that CloudWatch reads in them."""

import io
from typing import Any, get_args

import pytest

from handler.completion import TextRequest
from handler.inference.protocol import SamplingParams
from handler.stages import ColdStart, Stage
from handler.telemetry import COMPLETION_METRICS, log_cold_start, log_forwarded, log_in_flight
from tests.log_lines import logged
from tests.services import VERSION, make_settings, running_service

VARYING = ("timestamp", "location", "xray_trace_id")


def lines(log: io.StringIO, message: str) -> list[dict[str, Any]]:
    """The lines of this message, less what is Powertools' own."""
    return [{key: each[key] for key in each if key not in VARYING} for each in logged(log, message)]


API = {"function": "gpt2-api", "model": "tiny"}


def metrics(line: dict[str, Any], dimensions_of: dict[str, str] = API) -> dict[str, tuple[float, str]]:
    """Each metric's value and unit, read as CloudWatch reads them; the line is left without what describes them."""
    described = line.pop("_aws")
    assert isinstance(described["Timestamp"], int)
    [directive] = described["CloudWatchMetrics"]
    assert directive["Namespace"] == "gpt2"
    [dimensions] = directive["Dimensions"]
    assert {name: line[name] for name in dimensions} == dimensions_of
    return {each["Name"]: (line[each["Name"]], each["Unit"]) for each in directive["Metrics"]}


@pytest.fixture
def on_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "gpt2-api")


def complete() -> None:
    with running_service(settings=make_settings(auth_mode="iam")) as service:
        service.complete(TextRequest(prompts=[[65, 66]], n=2, max_tokens=3, sampling=SamplingParams(temperature=0)))


@pytest.mark.usefixtures("on_lambda")
def test_a_completion_is_one_line_and_its_metrics(log: io.StringIO) -> None:
    complete()
    [line] = lines(log, "completion")
    found = metrics(line)

    assert {name: unit for name, (_, unit) in found.items()} == COMPLETION_METRICS
    assert {name: value for name, (value, unit) in found.items() if unit == "Count"} == {
        "prompt_tokens": 2,
        "completion_tokens": 6,
        "batch_size": 2,
    }
    assert 0 <= line["queue_seconds"] <= line["time_to_first_token"]
    assert line["time_to_first_token"] + 2 * line["time_between_tokens"] <= line["seconds"] + 1e-5
    assert {key: line[key] for key in line if key not in COMPLETION_METRICS} == {
        "level": "INFO",
        "message": "completion",
        "service": "gpt2",
        "function": "gpt2-api",
        "model": "tiny",
        "version": VERSION,
        "choices": 2,
        "finish_reasons": ["length"],
    }


@pytest.mark.usefixtures("on_lambda")
def test_what_a_request_did_not_come_to_is_not_measured(log: io.StringIO) -> None:
    with running_service(settings=make_settings(auth_mode="iam")) as service:
        list(service.stream(TextRequest(prompts=[[65]], max_tokens=0, echo=True)))
    [line] = lines(log, "completion")
    assert set(metrics(line)) == set(COMPLETION_METRICS) - {"time_to_first_token", "time_between_tokens"}


@pytest.mark.usefixtures("on_lambda")
def test_a_cold_start_is_one_line_and_a_metric_for_each_stage(log: io.StringIO) -> None:
    start = ColdStart()
    for stage in get_args(Stage):
        start.reached(stage)
    log_cold_start(start.stages, "tiny", VERSION)
    [line] = lines(log, "cold start")
    found = metrics(line)

    assert found == {f"cold_start_{stage}": (seconds, "Seconds") for stage, seconds in start.stages.items()}
    assert (line["stages"], line["initialization"]) == (start.stages, "none")


@pytest.mark.usefixtures("on_lambda")
def test_a_request_sent_on_is_one_line_and_a_metric_whose_samples_count(log: io.StringIO) -> None:
    log_forwarded("answered", 0.25)
    [line] = lines(log, "forwarded")
    assert metrics(line, {"function": "gpt2-api"}) == {"forwarded_answered": (0.25, "Seconds")}
    assert line["outcome"] == "answered"


def test_a_container_has_metrics_under_the_name_it_is_given(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_NAME", "gpt2-gpu")
    complete()
    log_in_flight(3)
    [completion], [in_flight] = lines(log, "completion"), lines(log, "in flight")
    assert set(metrics(completion, {"function": "gpt2-gpu", "model": "tiny"})) == set(COMPLETION_METRICS)
    assert metrics(in_flight, {"function": "gpt2-gpu"}) == {"requests_in_flight": (3, "Count")}


def test_elsewhere_lines_are_only_lines(log: io.StringIO) -> None:
    complete()
    log_cold_start({"interpreter": 0.1}, "tiny", VERSION)
    log_in_flight(3)
    for line in lines(log, "completion") + lines(log, "cold start") + lines(log, "in flight"):
        assert "_aws" not in line
        assert not any(key.startswith("cold_start_") for key in line)
