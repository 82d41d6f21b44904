"""A queue drained into the worker: together, each message once, and none lost whatever happens."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from handler.errors import BatchFailedError, InvalidRequestError
from tests.fake_engine import FakeEngine
from tests.functional.events.worker import (
    Context,
    GatedEngine,
    Place,
    Queue,
    digest,
    greedy,
    running_worker,
    text_of,
)
from tests.services import VERSION, VOCABULARY


def test_a_batch_is_decoded_together_and_each_message_has_its_own_parameters(place: Place) -> None:
    bodies = [json.dumps({"prompt": f"She {i}", "max_tokens": 5 + i, "temperature": 0}) for i in range(4)]
    with running_worker(GatedEngine(4)) as worker:
        for i, body in enumerate(bodies):
            place.queue.send(body, request_id=f"message-{i}")
        assert place.queue.deliver(worker) == {"batchItemFailures": []}

        results = place.results()
        assert set(results) == {f"results/sqs/message-{i}.json" for i in range(4)}
        for i, body in enumerate(bodies):
            result = results[f"results/sqs/message-{i}.json"]
            assert (result["request_id"], result["request_sha256"]) == (f"message-{i}", digest(body))
            assert text_of(result) == greedy(f"She {i}", 5 + i)
            assert result["response"]["usage"]["completion_tokens"] == 5 + i
        # The first one may join a step ahead of the others, which is all it takes longer than the longest alone.
        assert len(worker.engine.steps) <= 5 + 3
        assert max(worker.engine.steps) == 4
    assert place.queue.receive() == []


def test_a_bare_prompt_is_a_message_known_by_its_hash(place: Place) -> None:
    with running_worker() as worker:
        place.queue.send("She said")
        place.queue.deliver(worker)

    key = f"results/sqs/{digest('She said')}.json"
    result = place.results()[key]
    assert result["request_id"] == result["request_sha256"] == digest("She said")
    assert set(result) == {"request_id", "request_sha256", "response"}
    response = result["response"]
    assert (response["object"], response["model"]) == ("text_completion", "tiny")
    assert response["system_fingerprint"] == f"{VERSION}-fake"


def test_a_second_delivery_generates_and_changes_nothing(place: Place) -> None:
    with running_worker() as worker:
        for _ in range(2):
            place.queue.send({"prompt": "She", "max_tokens": 5}, request_id="one")
            assert place.queue.deliver(worker) == {"batchItemFailures": []}
            kept = place.s3.head_object(Bucket="results", Key="results/sqs/one.json")
        assert worker.scheduler.submitted == 1
    assert list(place.results()) == ["results/sqs/one.json"]
    assert kept["ETag"] == place.s3.head_object(Bucket="results", Key="results/sqs/one.json")["ETag"]


def test_the_same_request_twice_in_a_batch_is_answered_once(place: Place) -> None:
    with running_worker() as worker:
        for _ in range(3):
            place.queue.send("She", reply_queue=place.replies.arn)
        assert place.queue.deliver(worker) == {"batchItemFailures": []}
        assert worker.scheduler.submitted == 1
    replies = [json.loads(message["Body"]) for message in place.replies.receive()]
    assert len(replies) == 3
    assert all(reply == replies[0] for reply in replies)


def test_a_crash_between_result_and_acknowledgement_costs_no_second_generation(place: Place) -> None:
    place.queue.send("She said", reply_queue=place.replies.arn)
    with running_worker() as worker:
        [message] = place.queue.receive()
        worker.adapter.handle(place.queue.event([message]), Context())
        [before] = place.replies.receive()
        # The answer never reached Lambda: the message shows up again.
        place.queue.release(message)
        assert place.queue.deliver(worker) == {"batchItemFailures": []}
        assert worker.scheduler.submitted == 1

    # Whether the reply had gone out before the crash nobody can know, so it goes out again, the same.
    assert json.loads(before["Body"]) in [json.loads(reply["Body"]) for reply in place.replies.receive()]
    assert place.queue.receive() == []


def test_two_deliveries_at_once_agree_on_one_result(place: Place) -> None:
    """Both are generating before either is done, and without a seed they generate different texts."""
    place.queue.send({"prompt": "She", "max_tokens": 20, "temperature": 2}, reply_queue=place.replies.arn)
    event = place.queue.event(place.queue.receive())
    with running_worker(GatedEngine(2)) as worker, ThreadPoolExecutor(2) as pool:
        deliveries = [pool.submit(worker.adapter.handle, event, Context()) for _ in range(2)]
        assert [delivery.result() for delivery in deliveries] == [{"batchItemFailures": []}] * 2
        assert worker.scheduler.submitted == 2

    [result] = place.results().values()
    replies = [json.loads(message["Body"]) for message in place.replies.receive()]
    assert [reply["response"] for reply in replies] == [result["response"]] * 2


INVALID = {
    "unknown-field": ('{"prompt": "a", "colour": 1}', "invalid_value: Unknown field: `colour`."),
    "out-of-bounds": (
        '{"prompt": "a", "max_tokens": -1}',
        "invalid_value: `max_tokens`: input should be greater than or equal to 0; given: -1.",
    ),
    "too-long": (
        '{"prompt": "a", "max_tokens": 50, "n": 99}',
        "invalid_value: `n` times the number of prompts may be at most 4; given: 99 times 1.",
    ),
    "other-model": (
        '{"prompt": "a", "model": "gpt-5"}',
        "model_not_found: `model`: 'tiny' is served here; given: 'gpt-5'.",
    ),
    "torn": (
        '{"prompt": "a"',
        "invalid_value: The message is not valid JSON: Expecting ',' delimiter, at character 14.",
    ),
    "deep": ('{"prompt": ' + "[" * 100_000, "invalid_value: The message is nested too deeply."),
    "control-characters": ('{"a\\u0001b": 1}', "invalid_value: Unknown field: `a?b`."),
    "../escape": (
        "a prompt",
        "invalid_value: `request_id` must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}; given: a string of 9 characters.",
    ),
}


def test_what_can_never_succeed_goes_to_the_dead_letters_with_its_reason(place: Place) -> None:
    for name, (body, _) in INVALID.items():
        place.queue.send(body, request_id=name, campaign="spring")
    place.queue.send("She said", request_id="good")
    with running_worker() as worker:
        assert place.queue.deliver(worker) == {"batchItemFailures": []}

    assert place.queue.receive() == []
    assert list(place.results()) == ["results/sqs/good.json"]
    buried = {
        message["MessageAttributes"]["request_id"]["StringValue"]: (
            message["Body"],
            message["MessageAttributes"]["error"]["StringValue"],
        )
        for message in place.dead_letters.receive()
    }
    assert buried == INVALID


def test_an_id_used_for_something_else_is_refused(place: Place) -> None:
    with running_worker() as worker:
        for prompt in ("She", "He"):
            place.queue.send(prompt, request_id="one")
            assert place.queue.deliver(worker) == {"batchItemFailures": []}

    [buried] = place.dead_letters.receive()
    assert buried["Body"] == "He"
    assert buried["MessageAttributes"]["error"]["StringValue"] == (
        "request_id_reused: `request_id`: 'one' has been used for a request that asked something else."
    )
    assert [result["request_sha256"] for result in place.results().values()] == [digest("She")]


def test_without_dead_letters_nothing_is_thrown_away(place: Place) -> None:
    queue = Queue(place.queue.client, "no-dead-letters")
    queue.send('{"colour": 1}', request_id="bad")
    queue.send("She", request_id="good")
    with running_worker() as worker:
        [failure] = queue.deliver(worker)["batchItemFailures"]

    [kept] = queue.receive()
    assert (kept["MessageId"], kept["Body"]) == (failure["itemIdentifier"], '{"colour": 1}')


def test_when_everything_fails_the_invocation_fails(place: Place) -> None:
    engine = FakeEngine(vocabulary_size=VOCABULARY)
    engine.fail_with = RuntimeError("the prompt was: secret")
    for prompt in ("She", "He"):
        place.queue.send(prompt)
    messages = place.queue.receive()
    with running_worker(engine) as worker, pytest.raises(BatchFailedError) as caught:
        worker.adapter.handle(place.queue.event(messages), Context())

    assert caught.value.message == (
        "All 2 messages failed, the first with: The message could not be answered: RuntimeError."
    )
    assert place.results() == {}
    # And once it works again they are answered.
    for message in messages:
        place.queue.release(message)
    with running_worker() as worker:
        assert place.queue.deliver(worker) == {"batchItemFailures": []}
    assert len(place.results()) == 2


def test_near_the_deadline_a_message_is_returned_with_nothing_half_done(place: Place) -> None:
    place.queue.send("done before", request_id="done")
    with running_worker() as worker:
        place.queue.deliver(worker)

    place.queue.send("done before", request_id="done")
    place.queue.send({"prompt": "She", "max_tokens": 50}, request_id="late")
    # Ten seconds and a half are kept for writing, so half a second is left for five seconds' worth of steps.
    slow = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.1)
    with running_worker(slow) as worker:
        [failure] = place.queue.deliver(worker, Context(milliseconds=11_000))["batchItemFailures"]
        assert worker.scheduler.submitted == 1

    assert list(place.results()) == ["results/sqs/done.json"]
    [returned] = place.queue.receive()
    assert returned["MessageId"] == failure["itemIdentifier"]
    assert returned["MessageAttributes"]["request_id"]["StringValue"] == "late"


def test_with_no_time_left_nothing_is_begun(place: Place) -> None:
    place.queue.send("She")
    with running_worker() as worker:
        with pytest.raises(BatchFailedError, match="Time was up before"):
            place.queue.deliver(worker, Context(milliseconds=10_000))
        assert worker.engine.prefilled == 0
    assert place.results() == {}


def test_deliveries_in_disorder_lose_nothing_and_do_nothing_twice(place: Place) -> None:
    """Forty messages, delivered again and again by four pollers of which many crash before they acknowledge."""
    for i in range(40):
        place.queue.send({"prompt": f"Message {i}", "max_tokens": 2, "temperature": 0}, request_id=f"m{i}")
    crashes = Counter[str]()
    lock = threading.Lock()

    def poll(worker: Any) -> None:
        while messages := place.queue.receive():
            answer = worker.adapter.handle(place.queue.event(messages), Context())
            assert answer == {"batchItemFailures": []}
            for message in messages:
                with lock:
                    crashes[message["MessageId"]] += 1
                    crashed = crashes[message["MessageId"]] < 3
                if crashed:
                    place.queue.release(message)
                else:
                    place.queue.client.delete_message(QueueUrl=place.queue.url, ReceiptHandle=message["ReceiptHandle"])

    with running_worker() as worker, ThreadPoolExecutor(4) as pool:
        for poller in [pool.submit(poll, worker) for _ in range(4)]:
            poller.result()
    assert {key: text_of(result) for key, result in place.results().items()} == {
        f"results/sqs/m{i}.json": greedy(f"Message {i}", 2) for i in range(40)
    }


@pytest.mark.parametrize("record", [{}, {"body": "a"}, {"messageId": "1"}, {"body": 1, "messageId": "1"}])
def test_a_record_without_its_parts_is_an_error(place: Place, record: dict[str, Any]) -> None:
    with running_worker() as worker, pytest.raises(InvalidRequestError, match="looks like SQS but a record lacks"):
        worker.adapter.handle({"Records": [{"eventSource": "aws:sqs", **record}]}, Context())


def test_without_a_bucket_nothing_is_taken(place: Place) -> None:
    place.queue.send("She")
    with running_worker(bucket="") as worker, pytest.raises(Exception, match="RESULTS_BUCKET is not set"):
        place.queue.deliver(worker)
