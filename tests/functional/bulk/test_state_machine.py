"""The definition that is deployed, run by moto's interpreter over the real worker: from a file to its answers.

What moto leaves out is said in lifecycle/local/state_machine.py.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from handler.errors import NoSuchObjectError
from handler.work.bulk.limits import RANGE_BYTES
from lifecycle.local.cloud import RESULTS_BUCKET
from lifecycle.local.state_machine import Function, StateMachine, definition, local_state_machine
from tests.fake_engine import FakeEngine
from tests.functional.batch_place import greedy, request, requests, texts
from tests.functional.bulk.place import NAME, Place, running_place
from tests.functional.flaky_s3 import flaky_s3
from tests.services import VOCABULARY

# Lines so long that a few hundred make ranges enough.
PADDING = "x" * 1000
RANGES = 3
LINES = RANGES * RANGE_BYTES // 1250

SLOW_DOWN, FAILED = (503, "SlowDown"), (501, "InternalError")


@pytest.fixture
def machine(aws: str, place: Place) -> Iterator[StateMachine]:
    with running_machine(aws, lambda event: place.step(**stepped(event))) as machine:
        yield machine


def running_machine(endpoint: str, function: Function) -> Any:
    return local_state_machine(endpoint, quick(definition(RESULTS_BUCKET, 2)), function)


def quick(text: str) -> str:
    """The definition, but retries come at once."""
    return text.replace('"IntervalSeconds": 2,', '"IntervalSeconds": 1,').replace(
        '"BackoffRate": 2.0', '"BackoffRate": 1.0'
    )


def stepped(event: dict[str, Any]) -> dict[str, Any]:
    return {"kind": event["bulk"], **{key: value for key, value in event.items() if key != "bulk"}}


def padded() -> str:
    """Requests that are long, and quickly answered."""
    return "\n".join(request(f"r{i}", user=PADDING, max_tokens=1) for i in range(LINES))


def output_of(described: dict[str, Any]) -> dict[str, Any]:
    assert described["status"] == "SUCCEEDED", described
    output: dict[str, Any] = json.loads(described["output"])
    return output


def test_a_file_becomes_a_file_of_answers_and_one_of_errors(place: Place, machine: StateMachine) -> None:
    data = padded()
    lines = data.split("\n")
    lines[LINES // 2] = "poison"
    run = place.put("\n".join(lines))
    output = output_of(machine.run({"input": NAME}))
    assert (output["run"], output["completed"], output["failed"]) == (run.id, LINES - 1, 1)
    answers = place.lines(output["output"])
    assert len(answers) == LINES - 1
    assert texts(answers) == {f"r{i}": greedy(f"She r{i}", 1) for i in range(LINES) if i != LINES // 2}
    [error] = place.lines(output["errors"])
    assert error["error"]["code"] == "invalid_json_line"
    plan = run.plan()
    assert plan is not None
    assert len(plan) == RANGES

    # A second run finds everything done.
    before = place.scheduler.submitted
    assert output_of(machine.run({"input": NAME})) == output
    assert place.scheduler.submitted == before


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", "InvalidRequestError", "`input`: the file is empty."),
        (None, "NoSuchObjectError", "`input`: there is no such object in the results bucket."),
    ],
)
def test_a_file_that_is_no_good_ends_the_run_at_once(
    place: Place, machine: StateMachine, data: bytes | None, error: str, message: str
) -> None:
    if data is not None:
        place.put(data)
    described = machine.run({"input": NAME})
    assert (described["status"], described["error"]) == ("FAILED", error)
    assert json.loads(described["cause"])["errorMessage"] == message


def test_a_part_takes_as_many_turns_as_it_needs(aws: str) -> None:
    """Each turn ends at its deadline, and the next goes on."""
    turns = Counter[str]()

    def function(event: dict[str, Any]) -> Any:
        turns[event["bulk"]] += 1
        return place.step(**stepped(event), milliseconds=16_200 if event["bulk"] == "part" else 300_000)

    engine = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.02)
    with running_place(engine) as place, running_machine(aws, function) as machine:
        place.put(requests(48, max_tokens=20))
        assert output_of(machine.run({"input": NAME}))["completed"] == 48
    assert turns["part"] > 1
    assert (turns["split"], turns["join"]) == (1, 1)


def test_s3_that_throttles_and_fails_loses_nothing_and_does_nothing_twice(
    aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flaky_s3() as flaky:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", flaky.endpoint)
        with running_place() as place:
            # One failure is boto3's to try again; an answer that it does not try again fails the invocation.
            trouble = {"split": [SLOW_DOWN], "part": [SLOW_DOWN, FAILED], "join": [FAILED, SLOW_DOWN]}

            def function(event: dict[str, Any]) -> Any:
                if rest := trouble[event["bulk"]]:
                    flaky.failures.append(rest.pop())
                return place.step(**stepped(event))

            with running_machine(aws, function) as machine:
                place.put(requests(20))
                output = output_of(machine.run({"input": NAME}))
            assert texts(place.lines(output["output"])) == {f"r{i}": greedy(f"She r{i}", 3) for i in range(20)}
            assert (output["completed"], output["failed"], place.scheduler.submitted) == (20, 0, 20)


def test_stopped_half_way_what_is_done_is_kept_and_a_rerun_does_the_rest(aws: str) -> None:
    begun = threading.Event()

    def function(event: dict[str, Any]) -> Any:
        if event["bulk"] == "part":
            begun.set()
        return place.step(**stepped(event))

    with running_place() as place, running_machine(aws, function) as machine:
        place.put(padded())
        execution = machine.start({"input": NAME})
        assert begun.wait(30)
        machine.client.stop_execution(executionArn=execution)
        while machine.describe(execution)["status"] == "RUNNING":
            time.sleep(0.01)
        assert machine.describe(execution)["status"] == "ABORTED"

        output = output_of(machine.run({"input": NAME}))
        assert set(texts(place.lines(output["output"]))) == {f"r{i}" for i in range(LINES)}


def test_ranges_that_fail_are_named_and_a_rerun_does_those_alone(aws: str) -> None:
    """moto tolerates any share of failures; here that is what is asked for."""
    broken = threading.Event()
    broken.set()

    def function(event: dict[str, Any]) -> Any:
        if broken.is_set() and event["bulk"] == "part" and event["first"] > 0:
            raise NoSuchObjectError("told to fail, and not to be tried again")
        return place.step(**stepped(event))

    with running_place() as place, running_machine(aws, function) as machine:
        run = place.put(padded())
        plan = output_of(machine.run({"input": NAME}))["missing"]
        assert plan == [each.model_dump() for each in run.plan() or []][1:]
        [done] = run.records()
        broken.clear()
        output = output_of(machine.run({"input": NAME}))
        assert (output["completed"], output["missing"]) == (LINES, [])
        assert place.scheduler.submitted == LINES
        assert done in run.records()
