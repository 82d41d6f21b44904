"""The function as Lambda runs it: awslambdaric under the emulator, fed with golden events and with sam's own."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import boto3
import pytest
from rich.console import Console

from handler.canary import handler as check_version
from lifecycle.local.cloud import RESULTS_BUCKET, embedded_cloud
from lifecycle.local.invoke import PATH, emulated_function, invoke
from lifecycle.local.models import publish_source
from tests.functional.events.worker import Context, Place

ROOT = Path(__file__).parents[3]
EVENTS = ROOT / "tests/events"

WARM = {"warm": "demo", "version": ANY}
COMPLETION = "text_completion"

GOLDEN: dict[str, Any] = {
    "direct-completion": COMPLETION,
    "direct-prompt": COMPLETION,
    "eventbridge": {"answered": 1},
    "function-url": 200,
    "http-api-v2": 200,
    "http-api-v2-generate-text": 200,
    "http-api-v2-healthz": 200,
    "http-api-v2-stream": 200,
    "load-balancer": 200,
    "rest-api-v1": 200,
    "s3": {"finished": ANY},
    "s3-eventbridge": {"finished": ANY},
    "schedule": WARM,
    "schedule-scheduler": WARM,
    "sns": {"answered": 1},
    "sqs": {"batchItemFailures": []},
    "sqs-poison": {"batchItemFailures": []},
    "step-functions": COMPLETION,
    "unknown-kinesis": "UnknownEventError",
}

UPLOAD = {"bucket": "results", "key": "inbox/chapter one.jsonl"}
HEALTH = {"method": "GET", "path": "healthz"}

# The steps of a bulk, each of which needs the one before.
BULK = ("bulk-split", "bulk-part", "bulk-join")

# What sam's generator is asked for, and what our function says to it.
GENERATED: list[tuple[str, str, dict[str, str], Any]] = [
    ("sqs", "receive-message", {}, {"batchItemFailures": []}),  # "Hello from SQS!" is a prompt
    ("sns", "notification", {}, {"answered": 1}),
    ("s3", "put", UPLOAD, {"finished": ANY}),
    ("s3", "put", {}, "InvalidRequestError"),  # of a bucket that is not ours
    ("s3", "delete", UPLOAD, "InvalidRequestError"),  # nothing was created
    ("cloudwatch", "scheduled-event", {}, WARM),
    ("apigateway", "aws-proxy", {}, 401),  # it bears no key
    ("apigateway", "aws-proxy", HEALTH, 200),
    ("apigateway", "http-api-proxy", {}, 401),
    ("apigateway", "http-api-proxy", HEALTH, 200),
    ("alb", "request", {}, 401),
    ("alb", "request", HEALTH, 200),
    ("cloudwatch", "logs", {}, "UnknownEventError"),
    ("stepfunctions", "error", {}, "UnknownEventError"),
]


@dataclass
class Function:
    """A warm function, and what lies around it."""

    address: str
    place: Place

    def send(self, event: Any) -> dict[str, Any]:
        """Its answer."""
        answer: dict[str, Any] = json.loads(invoke(self.address, json.dumps(event).encode()))
        return answer


@pytest.fixture(scope="module")
def function() -> Iterator[Function]:
    """One for all tests."""
    with embedded_cloud() as cloud:
        model = publish_source("demo", cloud.store, Console(quiet=True))
        place = Place(boto3.client("s3"), boto3.client("sqs"))
        line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "She"}}
        place.s3.put_object(Bucket="results", Key=UPLOAD["key"], Body=json.dumps(line).encode())
        with emulated_function(cloud.environment(model)) as address:
            yield Function(address, place)


@pytest.fixture(scope="module")
def generated() -> list[Any]:
    """An event for each line of the table."""
    done = subprocess.run(
        [str(ROOT / ".venv-sam/bin/python"), str(Path(__file__).with_name("sam_events.py"))],
        input=json.dumps([line[:3] for line in GENERATED]),
        capture_output=True,
        check=True,
        text=True,
    )
    events: list[Any] = json.loads(done.stdout)
    return events


def golden(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def gist(answer: dict[str, Any]) -> Any:
    """The type of an error, the status of a response, the kind of an object, or else the answer itself."""
    return answer.get("errorType") or answer.get("statusCode") or answer.get("object") or answer


def test_every_golden_event_is_expected_to_have_an_answer() -> None:
    assert sorted(path.stem for path in EVENTS.iterdir()) == sorted([*GOLDEN, *BULK])


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_events_are_answered(function: Function, name: str) -> None:
    assert gist(function.send(golden(name))) == GOLDEN[name]


@pytest.mark.parametrize("index", range(len(GENERATED)), ids=[f"{line[0]}-{line[1]}" for line in GENERATED])
def test_events_that_sam_generates_are_answered(function: Function, generated: list[Any], index: int) -> None:
    assert gist(function.send(generated[index])) == GENERATED[index][3]


def test_a_bare_message_of_the_generator_is_a_prompt_whose_result_is_kept(
    function: Function, generated: list[Any]
) -> None:
    before = set(function.place.results())
    event = generated[0]
    event["Records"][0]["messageAttributes"] = {"request_id": {"dataType": "String", "stringValue": "hello"}}
    function.send(event)
    kept = function.place.results()
    assert set(kept) - before == {"results/sqs/hello.json"}
    assert event["Records"][0]["body"] == "Hello from SQS!"
    assert kept["results/sqs/hello.json"]["response"]["usage"]["completion_tokens"] > 0


def test_a_bucket_that_is_not_ours_is_told(function: Function, generated: list[Any]) -> None:
    error = function.send(generated[3])
    assert error["errorMessage"] == "Only objects of the results bucket, RESULTS_BUCKET, mean something here."


def test_the_steps_of_bulk_hand_on_what_the_next_one_needs(function: Function) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 4}
    lines = [
        json.dumps({"custom_id": f"story-{i}", "method": "POST", "url": "/v1/completions", "body": body})
        for i in (1, 2)
    ]
    content = "".join(f"{line}\n" for line in lines).encode()
    function.place.s3.put_object(Bucket=RESULTS_BUCKET, Key="bulk/inputs/stories.jsonl", Body=content)
    split, part, joined = (function.send(golden(name)) for name in BULK)
    assert {name: split[name] for name in ("input", "etag", "ranges")} == {
        "input": "bulk/inputs/stories.jsonl",
        "etag": golden("bulk-part")["etag"],
        "ranges": 1,
    }
    assert (part["finished"], part["completed"], part["failed"]) == (True, 2, 0)
    assert (joined["finished"], joined["completed"], joined["missing"]) == (True, 2, [])
    answers = function.place.s3.get_object(Bucket=RESULTS_BUCKET, Key=joined["output"])["Body"].read().splitlines()
    assert [json.loads(answer)["custom_id"] for answer in answers] == ["story-1", "story-2"]


def test_an_unknown_event_is_a_typed_error_and_the_function_lives_on(function: Function) -> None:
    assert "Recognised are: HTTP" in function.send(golden("unknown-kinesis"))["errorMessage"]
    assert function.send(golden("direct-prompt"))["usage"]["completion_tokens"] <= 16


@contextmanager
def code_deploy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A stand-in for CodeDeploy, and what it was told."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.append({"action": self.headers["X-Amz-Target"].partition(".")[2], **body})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_CODEDEPLOY", f"http://127.0.0.1:{server.server_port}")
        yield told
        server.shutdown()
        thread.join()


def test_a_deployment_is_told_that_a_version_answers(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    # The emulator knows its function by this name alone.
    monkeypatch.setenv("NEW_VERSION", "function")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", function.address.removesuffix(PATH))
    event = {"DeploymentId": "d-ABC", "LifecycleEventHookExecutionId": "hook-1"}
    with code_deploy(monkeypatch) as told:
        assert check_version(event, Context()) == {"status": "Succeeded"}
    assert told == [
        {
            "action": "PutLifecycleEventHookExecutionStatus",
            "deploymentId": "d-ABC",
            "lifecycleEventHookExecutionId": "hook-1",
            "status": "Succeeded",
        }
    ]


def test_the_command_prints_the_answer_and_nothing_else() -> None:
    command = [sys.executable, "-m", "lifecycle.local", "invoke", str(EVENTS / "direct-prompt.json")]
    done = subprocess.run(command, capture_output=True, check=True, timeout=100)

    assert json.loads(done.stdout)["model"] == "demo"
