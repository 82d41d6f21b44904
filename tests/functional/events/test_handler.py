"""Golden events through the real entry point: model from S3, key from DynamoDB, answers in the shape of the source."""

import importlib
import io
import json
import sys
from hashlib import sha256
from typing import Any

import boto3
import pytest

from handler.errors import InvalidRequestError, ServiceError, UnknownEventError, UnknownModelError
from lifecycle.local.cloud import Cloud
from tests.functional.events.golden import Handler, golden, text_of
from tests.functional.events.worker import Context, Place

pytestmark = pytest.mark.usefixtures("mangum_loop")


def test_a_snapshot_is_taken_with_the_model_in_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.environment("demo").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "handler.main", raising=False)
    main = importlib.import_module("handler.main")
    # What awslambdaric calls when initialisation is complete.
    main.SnapshotHooks(main.loading, checks_keys=True).before_snapshot()

    assert main.loading.start().done()


def test_a_direct_invocation_gets_the_completion_itself(handler: Handler) -> None:
    answer = handler(golden("direct-completion"), Context())

    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert all("\n" not in choice["text"] for choice in answer["choices"])
    assert answer == json.loads(json.dumps(answer))
    assert text_of(handler(golden("direct-prompt"), Context()))


def kept(name: str) -> dict[str, Any]:
    """A result of the results bucket."""
    data = boto3.client("s3").get_object(Bucket="results", Key=f"results/{name}.json")["Body"].read()
    result: dict[str, Any] = json.loads(data)
    return result


def digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()


def test_messages_of_a_queue_are_answered_in_the_results_bucket(handler: Handler) -> None:
    assert handler(golden("sqs"), Context(60_000)) == {"batchItemFailures": []}

    assert text_of(kept(f"sqs/{digest('Once upon a time')}")["response"])
    assert kept("sqs/story-1")["response"]["usage"]["completion_tokens"] <= 12
    assert [choice["index"] for choice in kept("sqs/story-2")["response"]["choices"]] == [0, 1, 2, 3]


def test_a_poisoned_message_is_buried_and_the_others_live(handler: Handler) -> None:
    place = Place(boto3.client("s3"), boto3.client("sqs"))
    assert handler(golden("sqs-poison"), Context(60_000)) == {"batchItemFailures": []}

    assert text_of(kept("sqs/good")["response"])
    [buried] = place.dead_letters.receive()
    assert buried["Body"] == '{"prompt": "He said", "colour": 1}'
    assert {name: each["StringValue"] for name, each in buried["MessageAttributes"].items()} == {
        "request_id": "poison",
        "error": "invalid_value: Unknown field: `colour`.",
    }


def test_notifications_and_events_are_answered_in_the_results_bucket(handler: Handler) -> None:
    for _ in range(2):  # delivered twice, answered once
        assert handler(golden("sns"), Context(60_000)) == {"answered": 1}
        assert handler(golden("eventbridge"), Context(60_000)) == {"answered": 1}

    assert text_of(kept("sns/notified-1")["response"])
    assert text_of(kept("eventbridge/17793124-05d4-b198-2fde-7ededc63b103")["response"])


def test_an_event_that_a_rule_put_into_a_queue_is_the_same_request(handler: Handler) -> None:
    event = golden("eventbridge")
    handler(event, Context(60_000))
    before = kept(f"eventbridge/{event['id']}")
    queued = golden("sqs")
    queued["Records"] = [{**queued["Records"][0], "body": json.dumps(event)}]
    assert handler(queued, Context(60_000)) == {"batchItemFailures": []}

    assert kept(f"eventbridge/{event['id']}") == before


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sns", {"Message": '{"colour": 1}'}, "Unknown field: `colour`."),
        ("eventbridge", {"prompt": 5}, "`prompt`: input should be a string, a list of strings"),
    ],
)
def test_an_asynchronous_event_that_fails_is_an_error(
    handler: Handler, name: str, change: dict[str, Any], message: str
) -> None:
    event = golden(name)
    if name == "sns":
        event["Records"][0]["Sns"].update(change, MessageAttributes={})
    else:
        event.update(detail=change, id="another")
    with pytest.raises(InvalidRequestError) as caught:
        handler(event, Context(60_000))
    assert message in caught.value.message


@pytest.mark.parametrize("record", [{}, {"Sns": {}}, {"Sns": {"Message": 5}}, {"Sns": 5}])
def test_a_notification_without_its_parts_is_an_error(handler: Handler, record: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="looks like SNS but a record lacks a part"):
        handler({"Records": [{"EventSource": "aws:sns", **record}]}, Context())


def test_an_upload_starts_one_batch_however_it_is_told(handler: Handler) -> None:
    body = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "She", "max_tokens": 4}}
    s3 = boto3.client("s3")
    s3.put_object(Bucket="results", Key="inbox/chapter one.jsonl", Body=json.dumps(body).encode())
    told = handler(golden("s3"), Context())
    assert handler(golden("s3-eventbridge"), Context()) == told
    [(batch_id, finished)] = told["finished"].items()
    assert finished is False

    created = golden("s3-eventbridge")
    created["detail"]["object"]["key"] = f"batches/created/{batch_id}.json"
    assert handler(created, Context()) == {"finished": {batch_id: True}}
    state = json.loads(s3.get_object(Bucket="results", Key=f"batches/states/{batch_id}.json")["Body"].read())
    assert (state["status"], state["request_counts"]) == ("completed", {"total": 1, "completed": 1, "failed": 0})


@pytest.mark.parametrize("name", ["schedule", "schedule-scheduler"])
def test_a_schedule_keeps_the_model_warm(handler: Handler, name: str) -> None:
    answer = handler(golden(name), Context())
    assert (set(answer), answer["warm"]) == ({"warm", "version"}, "demo")


def test_a_step_of_a_workflow_is_a_direct_invocation(handler: Handler) -> None:
    assert len(handler(golden("step-functions"), Context())["choices"]) == 2


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({"prompt": "a", "max_tokens": -1}, InvalidRequestError, "`max_tokens`: input should be greater than or equal"),
        ({"prompt": "a", "stream": True}, InvalidRequestError, "`stream` must be false here"),
        ({"prompt": "a", "colour": 1}, InvalidRequestError, "Unknown field: `colour`."),
        ({"prompt": "a", "model": "gpt-5"}, UnknownModelError, "'demo' is served here; given: 'gpt-5'."),
        (golden("unknown-kinesis"), UnknownEventError, "No adapter recognises this event. Recognised are: HTTP"),
        ({}, UnknownEventError, "No adapter recognises this event."),
        ({"Records": []}, UnknownEventError, "No adapter recognises this event."),
        ({"Records": [{"eventSource": "aws:sqs"}, 5]}, UnknownEventError, "No adapter recognises this event."),
        ({**golden("eventbridge"), "detail": "text"}, UnknownEventError, "No adapter recognises this event."),
        ({**golden("schedule"), "source": "somebody"}, UnknownEventError, "Schedule: `detail-type` `Scheduled Event`"),
        ([], UnknownEventError, "No adapter recognises this event."),
        (None, UnknownEventError, "No adapter recognises this event."),
        ({"requestContext": "text"}, UnknownEventError, "No adapter recognises this event."),
        ({"requestContext": {"elb": {}}}, InvalidRequestError, "lacks a part Mangum needs: 'headers'"),
        ({"requestContext": {}, "version": "2.0"}, InvalidRequestError, "lacks a part Mangum needs"),
    ],
)
def test_an_event_that_cannot_be_answered_is_a_typed_error(
    handler: Handler, event: Any, error: type[ServiceError], message: str
) -> None:
    with pytest.raises(error) as caught:
        handler(event, Context())
    assert message in caught.value.message


class BrokenContext(Context):
    def get_remaining_time_in_millis(self) -> int:
        raise ArithmeticError("while reading 'the sea'")


def test_a_bug_is_told_and_logged_without_its_words(handler: Handler, log: io.StringIO) -> None:
    with pytest.raises(ServiceError) as caught:
        handler({"prompt": "the sea"}, BrokenContext())
    told = caught.value
    assert (told.message, told.__suppress_context__) == ("Something went wrong here; it has been logged.", True)
    assert json.loads(log.getvalue())["error"] == "ArithmeticError"
    assert "the sea" not in log.getvalue()


def test_generation_stops_at_lambdas_deadline_with_what_there_is(handler: Handler) -> None:
    # Half a second is kept for the answer, so 700 ms leave 200 for generation; 16 times 200 tokens take longer on any
    # machine, for drawing each from a nucleus alone takes a tenth of a millisecond.
    event = {"prompt": "Once upon a time", "max_tokens": 200, "n": 16, "top_p": 0.9, "logit_bias": {"0": -100}}
    choices = handler(event, Context(milliseconds=700))["choices"]

    assert {(choice["finish_reason"], choice["cut_by"]) for choice in choices} == {("length", "deadline")}
    assert any(choice["text"] for choice in choices)
