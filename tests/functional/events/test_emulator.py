"""The function as Lambda runs it: awslambdaric under the runtime interface emulator, fed with the golden events."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lifecycle.local.cloud import RESULTS_BUCKET, Cloud, embedded_cloud
from lifecycle.local.invoke import emulated_function, invoke
from lifecycle.local.models import publish_source

EVENTS = Path(__file__).parent.parent.parent / "events"

Send = Callable[[str], Any]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with embedded_cloud() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def send(cloud: Cloud) -> Iterator[Send]:
    """Sends a golden event to one warm function and returns the answer."""
    model = publish_source("demo", cloud.store, Console(quiet=True))
    with emulated_function(cloud.environment(model)) as address:
        yield lambda name: json.loads(invoke(address, (EVENTS / f"{name}.json").read_bytes()))


@pytest.mark.parametrize("name", ["http-api-v2", "rest-api-v1", "function-url", "load-balancer"])
def test_http_events_are_answered_over_http(send: Send, name: str) -> None:
    answer = send(name)
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["choices"][0]["text"]


def test_direct_events_are_answered_with_the_completion(send: Send) -> None:
    assert send("direct-prompt")["usage"]["completion_tokens"] <= 16
    assert len(send("direct-completion")["choices"]) == 2


def test_events_that_nobody_waits_for_are_acknowledged(send: Send) -> None:
    assert send("sqs") == {"batchItemFailures": []}
    assert send("sns") == send("eventbridge") == {"answered": 1}
    assert send("schedule")["warm"] == send("schedule-scheduler")["warm"] == "demo"
    assert len(send("step-functions")["choices"]) == 2


def test_the_steps_of_bulk_hand_on_what_the_next_one_needs(send: Send, cloud: Cloud) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 4}
    lines = [
        json.dumps({"custom_id": f"story-{i}", "method": "POST", "url": "/v1/completions", "body": body})
        for i in (1, 2)
    ]
    content = "".join(f"{line}\n" for line in lines).encode()
    cloud.store.client.put_object(Bucket=RESULTS_BUCKET, Key="bulk/inputs/stories.jsonl", Body=content)
    split, part, joined = send("bulk-split"), send("bulk-part"), send("bulk-join")
    assert {name: split[name] for name in ("input", "etag", "ranges")} == {
        "input": "bulk/inputs/stories.jsonl",
        "etag": json.loads((EVENTS / "bulk-part.json").read_text())["etag"],
        "ranges": 1,
    }
    assert (part["finished"], part["completed"], part["failed"]) == (True, 2, 0)
    assert (joined["finished"], joined["completed"], joined["missing"]) == (True, 2, [])
    answers = cloud.store.client.get_object(Bucket=RESULTS_BUCKET, Key=joined["output"])["Body"].read().splitlines()
    assert [json.loads(answer)["custom_id"] for answer in answers] == ["story-1", "story-2"]


def test_an_unknown_event_is_a_typed_error_and_the_function_lives_on(send: Send) -> None:
    error = send("unknown-kinesis")
    assert error["errorType"] == "UnknownEventError"
    assert "Recognised are: HTTP" in error["errorMessage"]
    assert send("direct-prompt")["object"] == "text_completion"


def test_the_command_prints_the_answer_and_nothing_else() -> None:
    command = [sys.executable, "-m", "lifecycle.local", "invoke", str(EVENTS / "direct-prompt.json")]
    done = subprocess.run(command, capture_output=True, check=True, timeout=100)

    assert json.loads(done.stdout)["model"] == "demo"
