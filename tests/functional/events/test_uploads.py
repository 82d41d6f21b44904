"""From an upload to its output: bucket, event bus and queue are moto's, wired as the template says."""

import json
from typing import Any

import boto3
import pytest

from handler.errors import BatchFailedError, InvalidRequestError, NoSuchObjectError, ServiceError
from handler.events.s3 import JOB_TYPE
from handler.events.sqs import DELIVERIES
from handler.kept.batches import Batches
from handler.kept.files import Files
from handler.kept.jobs import JobRequest, Jobs
from handler.kept.storage import Storage
from handler.work.background import ATTEMPTS
from tests.fake_engine import FakeEngine
from tests.functional.batch_place import greedy, request, requests, texts
from tests.functional.events.worker import Context, GatedEngine, Place, Queue, Worker, running_worker
from tests.infrastructure.stack import stacks
from tests.services import VOCABULARY


def wire(place: Place, rule: str = "BatchRule") -> Queue:
    """The queue that a rule of the template fills with events of the bucket."""
    pattern = stacks()["api-key"].properties(rule)["EventPattern"]
    decided = json.loads(json.dumps(pattern).replace('{"Ref": "ResultsBucket"}', '"results"'))
    redrive = json.dumps({"deadLetterTargetArn": place.dead_letters.arn, "maxReceiveCount": DELIVERIES})
    queue = Queue(place.queue.client, "batches", {"RedrivePolicy": redrive})
    events = boto3.client("events")
    events.put_rule(Name="batches", EventPattern=json.dumps(decided))
    events.put_targets(Rule="batches", Targets=[{"Id": "queue", "Arn": queue.arn}])
    place.s3.put_bucket_notification_configuration(
        Bucket="results", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    return queue


def drain(queue: Queue, worker: Worker) -> list[str]:
    """Deliver messages until there are none; the keys they told of."""
    keys = []
    while messages := queue.receive():
        for message in messages:
            keys.append(json.loads(message["Body"])["detail"]["object"]["key"])
            assert worker.adapter.handle(queue.event([message]), Context(60_000)) == {"batchItemFailures": []}
            queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
    return keys


def output(place: Place, batch_id: str) -> list[dict[str, Any]]:
    storage = Storage(place.s3, "results")
    file_id = Batches(storage).get(batch_id).output_file_id
    assert file_id is not None
    return [json.loads(line) for line in Files(storage).content(file_id).splitlines()]


def test_an_upload_becomes_an_output_by_way_of_the_queue(place: Place) -> None:
    queue = wire(place)
    place.s3.put_object(Bucket="results", Key="inbox/chapter one.jsonl", Body=requests(3).encode())
    place.s3.put_object(Bucket="results", Key="inbox/notes.txt", Body=b"hands off")
    place.s3.put_object(Bucket="results", Key="elsewhere/a.jsonl", Body=b"{}")
    messages = queue.receive()
    [upload] = [each for each in messages if "chapter" in each["Body"]]
    with running_worker() as worker:
        # Delivered twice, it starts one batch.
        for _ in range(2):
            assert worker.adapter.handle(queue.event([upload]), Context()) == {"batchItemFailures": []}
        [created] = drain(queue, worker)
        batch_id = created.removeprefix("batches/created/").removesuffix(".json")
        assert texts(output(place, batch_id)) == {f"r{i}": greedy(f"She r{i}", 3) for i in range(3)}
        assert worker.scheduler.submitted == 3
    batch = Batches(Storage(place.s3, "results")).get(batch_id)
    assert (batch.status, batch.metadata) == ("completed", {"uploaded_as": "inbox/chapter one.jsonl"})


def test_a_batch_that_time_was_too_short_for_goes_on_by_itself(place: Place) -> None:
    """Requests that fit no part of the time given are left, and an object that is created brings the worker back."""
    queue = wire(place)
    slow = "\n".join([request("quick", max_tokens=0), request("slow", max_tokens=40)])
    place.s3.put_object(Bucket="results", Key="inbox/a.jsonl", Body=slow.encode())
    engine = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.2)
    with running_worker(engine) as worker:
        assert worker.adapter.handle(queue.event(queue.receive()), Context()) == {"batchItemFailures": []}
        [message] = queue.receive()
        # Of eighteen seconds fifteen are kept for writing; forty steps take eight.
        answer = worker.adapter.handle(queue.event([message]), Context(18_500))
        assert answer == {"batchItemFailures": []}
        queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
    with running_worker() as worker:
        [key] = drain(queue, worker)
        assert worker.scheduler.submitted == 1
    assert key.startswith("batches/continued/")
    batch_id = key.split("/")[2]
    assert [line["custom_id"] for line in output(place, batch_id)] == ["quick", "slow"]


def told(key: str, bucket: str = "results", size: int = 10) -> dict[str, Any]:
    return {
        "id": "1",
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-11-24T12:00:00Z",
        "detail": {"bucket": {"name": bucket}, "object": {"key": key, "etag": "e", "size": size}},
    }


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        (told("inbox/a.jsonl", bucket="other"), InvalidRequestError, "Only objects of the results bucket"),
        (told("inbox/a.txt"), InvalidRequestError, "Only objects below inbox/ that end in .jsonl"),
        (told("inbox/a.jsonl"), NoSuchObjectError, "inbox/a.jsonl is not there any more."),
        (
            told("inbox/a.jsonl", size=10**9),
            InvalidRequestError,
            "may have at most 100000000 bytes; given: 1000000000.",
        ),
        (told("batches/created/batch_0.json"), NoSuchObjectError, "There is no such batch."),
        ({**told("a"), "detail": {}}, InvalidRequestError, "looks like S3 but lacks a part: 'object'."),
        ({**told("a"), "time": "soon"}, InvalidRequestError, "looks like S3 but lacks a part"),
        ({"Records": [{"eventSource": "aws:s3"}]}, InvalidRequestError, "looks like S3 but lacks a part: 's3'."),
    ],
)
def test_what_cannot_start_a_batch_is_said(
    place: Place, event: dict[str, Any], error: type[ServiceError], message: str
) -> None:
    with running_worker() as worker, pytest.raises(error) as caught:
        worker.s3.handle(event, Context())
    assert message in caught.value.message


def test_such_an_event_in_the_queue_is_buried_with_the_reason(place: Place) -> None:
    place.queue.send(told("inbox/gone.jsonl"))
    with running_worker() as worker:
        assert place.queue.deliver(worker) == {"batchItemFailures": []}
    [buried] = place.dead_letters.receive()
    assert buried["MessageAttributes"]["error"]["StringValue"] == "not_found: inbox/gone.jsonl is not there any more."


def test_without_time_the_event_comes_again(place: Place) -> None:
    queue = wire(place)
    place.s3.put_object(Bucket="results", Key="inbox/a.jsonl", Body=requests(1).encode())
    with running_worker() as worker:
        assert worker.adapter.handle(queue.event(queue.receive()), Context()) == {"batchItemFailures": []}
        with pytest.raises(BatchFailedError, match="Time was up"):
            queue.deliver(worker, Context(15_000))
        assert worker.engine.prefilled == 0


def test_a_batch_that_fails_five_times_has_failed(place: Place) -> None:
    queue = wire(place)
    place.s3.put_object(Bucket="results", Key="inbox/a.jsonl", Body=requests(1).encode())
    with running_worker() as worker:
        queue.deliver(worker)
        for _ in range(ATTEMPTS - 1):
            [message] = queue.receive()
            with pytest.raises(BatchFailedError, match="Time was up"):
                worker.adapter.handle(queue.event([message]), Context(15_000))
            queue.release(message)
        assert worker.adapter.handle(queue.event(queue.receive()), Context(15_000)) == {"batchItemFailures": []}
    [batch] = Batches(Storage(place.s3, "results")).listed(after=None, limit=2)
    assert (batch.status, batch.errors and batch.errors.data[0].code) == ("failed", "deadline_exceeded")
    [dead] = place.dead_letters.receive()
    assert batch.id in dead["Body"]
    assert dead["MessageAttributes"]["error"]["StringValue"].startswith("deadline_exceeded: Time was up")


def test_a_job_that_fails_five_times_has_failed_and_the_bus_hears_of_it(place: Place) -> None:
    queue = wire(place, "JobRule")
    events = boto3.client("events")
    events.put_rule(Name="done", EventPattern=json.dumps({"source": ["gpt2"], "detail-type": [JOB_TYPE]}))
    events.put_targets(Rule="done", Targets=[{"Id": "queue", "Arn": place.replies.arn}])
    jobs = Jobs(Storage(place.s3, "results"))
    jobs.create(JobRequest(id="job_1", created_at=1, body={"prompt": "She"}))
    engine = FakeEngine(vocabulary_size=VOCABULARY)
    engine.fail_with = RuntimeError("the prompt was: secret")
    with running_worker(engine) as worker:
        for attempt in range(ATTEMPTS - 1):
            [message] = queue.receive()
            with pytest.raises(BatchFailedError):
                worker.adapter.handle(queue.event([message]), Context())
            assert jobs.get("job_1").status == "queued", attempt
            queue.release(message)
        assert worker.adapter.handle(queue.event(queue.receive()), Context()) == {"batchItemFailures": []}
    job = jobs.get("job_1")
    assert (job.status, job.response and job.response.status_code) == ("failed", 500)
    assert "secret" not in job.model_dump_json()
    [heard] = place.replies.receive()
    assert json.loads(heard["Body"])["detail"]["status"] == "failed"


def test_what_killed_the_process_five_times_has_failed_and_is_not_begun_again(place: Place) -> None:
    """A job and a batch, each delivered to processes that do not live to say anything of it."""

    def killed(queue: Queue, worker: Worker) -> None:
        for _ in range(ATTEMPTS):
            [message] = queue.receive()
            queue.release(message)
        assert worker.adapter.handle(queue.event(queue.receive()), Context()) == {"batchItemFailures": []}
        assert worker.engine.prefilled == 0

    storage = Storage(place.s3, "results")
    jobs = Jobs(storage)
    with running_worker() as worker:
        queue = wire(place, "JobRule")
        jobs.create(JobRequest(id="job_1", created_at=1, body={"prompt": "She"}))
        killed(queue, worker)
        queue.client.delete_queue(QueueUrl=queue.url)
        queue = wire(place)
        place.s3.put_object(Bucket="results", Key="inbox/a.jsonl", Body=requests(1).encode())
        queue.deliver(worker)
        killed(queue, worker)
    job, [batch] = jobs.get("job_1"), Batches(storage).listed(after=None, limit=2)
    assert job.response is not None
    assert (job.status, job.response.body["error"]["code"]) == ("failed", "abandoned")
    assert (batch.status, batch.errors and batch.errors.data[0].code) == ("failed", "abandoned")
    assert {dead["MessageAttributes"]["error"]["StringValue"] for dead in place.dead_letters.receive()} == {
        "abandoned: It was begun 5 times, and each time the process ended that worked on it."
    }


def test_chats_that_are_uploaded_start_a_batch_of_chats(place: Place) -> None:
    queue = wire(place)
    body = {"messages": [{"role": "user", "content": "She"}], "max_tokens": 3}
    line = {"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": body}
    place.s3.put_object(Bucket="results", Key="inbox/chats.jsonl", Body=json.dumps(line).encode())
    with running_worker() as worker:
        drain(queue, worker)
    [batch] = Batches(Storage(place.s3, "results")).listed(after=None, limit=2)
    assert (batch.endpoint, batch.status) == ("/v1/chat/completions", "completed")
    [answer] = output(place, batch.id)
    assert answer["response"]["body"]["object"] == "chat.completion"


def test_a_stranger_cannot_have_a_batch_fail(place: Place) -> None:
    """An event that tells of another bucket's object is buried, and the batch of that name stays as it is."""
    queue = wire(place)
    place.s3.put_object(Bucket="results", Key="inbox/a.jsonl", Body=requests(1).encode())
    storage = Storage(place.s3, "results")
    with running_worker() as worker:
        queue.deliver(worker)
        [batch] = Batches(storage).listed(after=None, limit=2)
        place.queue.send(told(f"batches/created/{batch.id}.json", bucket="other"))
        assert place.queue.deliver(worker) == {"batchItemFailures": []}
    assert Batches(storage).get(batch.id) == batch


def test_jobs_that_come_together_are_answered_and_the_bus_hears_of_each(place: Place) -> None:
    queue = wire(place, "JobRule")
    events = boto3.client("events")
    events.put_rule(Name="done", EventPattern=json.dumps({"source": ["gpt2"], "detail-type": [JOB_TYPE]}))
    events.put_targets(Rule="done", Targets=[{"Id": "queue", "Arn": place.replies.arn}])
    jobs = Jobs(Storage(place.s3, "results"))
    body = {"max_tokens": 4, "temperature": 0}
    for i in range(3):
        jobs.create(JobRequest(id=f"job_{i}", created_at=1, body={"prompt": f"She {i}", **body}))
    with running_worker(GatedEngine(3)) as worker:
        assert queue.deliver(worker) == {"batchItemFailures": []}
        assert max(worker.engine.steps) == 3

    answers = [jobs.get(f"job_{i}").response for i in range(3)]
    assert [answer and answer.body["choices"][0]["text"] for answer in answers] == [
        greedy(f"She {i}", 4) for i in range(3)
    ]
    heard = [json.loads(message["Body"])["detail"] for message in place.replies.receive()]
    assert sorted(heard, key=lambda detail: str(detail["id"])) == [
        {"id": f"job_{i}", "status": "completed", "bucket": "results", "key": f"results/jobs/job_{i}.json"}
        for i in range(3)
    ]
