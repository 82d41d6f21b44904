"""Results sent where a message asks: to a queue, to an event bus, or told why not."""

import json

import boto3
import pytest

from tests.fake_engine import FakeEngine
from tests.functional.events.worker import (
    Place,
    Queue,
    running_worker,
)
from tests.services import VOCABULARY


def test_a_result_is_sent_where_the_message_asks(place: Place) -> None:
    events = boto3.client("events")
    events.create_event_bus(Name="answers")
    events.put_rule(Name="all", EventBusName="answers", EventPattern=json.dumps({"source": ["gpt2"]}))
    heard = Queue(place.queue.client, "heard")
    events.put_targets(Rule="all", EventBusName="answers", Targets=[{"Id": "queue", "Arn": heard.arn}])
    place.queue.send(
        {"prompt": "She", "max_tokens": 5}, request_id="one", reply_queue=place.replies.arn, reply_bus="answers"
    )
    with running_worker() as worker:
        assert place.queue.deliver(worker) == {"batchItemFailures": []}

    expected = {
        "request_id": "one",
        "bucket": "results",
        "key": "results/sqs/one.json",
        "response": place.results()["results/sqs/one.json"]["response"],
    }
    [reply] = place.replies.receive()
    assert json.loads(reply["Body"]) == expected
    [message] = heard.receive()
    event = json.loads(message["Body"])
    assert (event["source"], event["detail-type"]) == ("gpt2", "Completion Finished")
    assert event["detail"] == expected


def test_a_large_result_is_named_rather_than_sent(place: Place) -> None:
    body = {"prompt": "日本 " * 180, "max_tokens": 1, "n": 4, "logprobs": 5, "echo": True}
    engine = FakeEngine(vocabulary_size=VOCABULARY, context_length=2000)
    place.queue.send(body, request_id="large", reply_queue=place.replies.arn)
    with running_worker(engine) as worker:
        assert place.queue.deliver(worker) == {"batchItemFailures": []}

    [reply] = place.replies.receive()
    assert json.loads(reply["Body"]) == {
        "request_id": "large",
        "bucket": "results",
        "key": "results/sqs/large.json",
        "response": None,
    }
    assert len(place.read("results/sqs/large.json")) > 200_000


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"reply_queue": "arn:aws:sqs:us-east-1:123456789012:nowhere"}, "Sending to the queue is refused: "),
        ({"reply_queue": "https://evil.example/queue"}, "A queue must be named by an ARN that matches "),
    ],
)
def test_a_reply_that_nobody_can_deliver_is_told_beside_the_message(
    place: Place, reply: dict[str, str], reason: str
) -> None:
    place.queue.send("She", request_id="one", **reply)
    with running_worker() as worker:
        assert place.queue.deliver(worker) == {"batchItemFailures": []}

    [buried] = place.dead_letters.receive()
    assert buried["MessageAttributes"]["error"]["StringValue"].startswith(f"sending_refused: {reason}")
    # The result was made all the same.
    assert list(place.results()) == ["results/sqs/one.json"]
