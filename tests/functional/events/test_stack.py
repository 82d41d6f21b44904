"""The stack's buckets, queues and rules as CloudFormation makes them of the template, in moto, and what flows there.

moto makes no aliases, policies of queues and buckets, or event source mappings, and ignores a bucket's notifications:
the first are left out, queues are drained into the worker here, and the last is set by the test.
"""

import json
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from handler.kept.batches import Batches
from handler.kept.files import Files
from handler.kept.jobs import JobRequest, Jobs
from handler.kept.storage import Storage, storage_of
from tests.functional.batch_place import greedy, requests, texts
from tests.functional.events.worker import Context, Queue, running_worker
from tests.infrastructure.stack import stacks

KINDS = {"AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::Events::Rule"}


@dataclass
class Deployed:
    """A stack that was deployed: its queues, and its results bucket."""

    request_queue: Queue
    batch_queue: Queue
    dead_letters: Queue
    storage: Storage

    def drain(self) -> None:
        """Do what the event source mappings do, until the queues are empty."""
        with running_worker(bucket=self.storage.bucket) as worker:
            for queue, size in ((self.request_queue, 10), (self.batch_queue, 1)):
                while messages := queue.receive():
                    for start in range(0, len(messages), size):
                        batch = messages[start : start + size]
                        answer = worker.adapter.handle(queue.event(batch), Context(60_000))
                        assert answer == {"batchItemFailures": []}
                    for message in messages:
                        queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])


@pytest.fixture
def deployed(aws: str) -> Deployed:
    template = stacks()["api-key"].template
    # It calls an alias.
    resources = {
        name: each for name, each in template["Resources"].items() if each["Type"] in KINDS and name != "WarmUpRule"
    }
    body = {"Parameters": template["Parameters"], "Resources": resources}
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(StackName="gpt2", TemplateBody=json.dumps(body))
    made: dict[str, Any] = {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in cloudformation.list_stack_resources(StackName="gpt2")["StackResourceSummaries"]
    }
    assert set(made) == set(resources)
    boto3.client("s3").put_bucket_notification_configuration(
        Bucket=made["ResultsBucket"], NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    request_queue, batch_queue, dead_letters = (
        Queue(boto3.client("sqs"), made[name].rpartition("/")[2])
        for name in ("RequestQueue", "BatchQueue", "DeadLetterQueue")
    )
    return Deployed(request_queue, batch_queue, dead_letters, storage_of(made["ResultsBucket"]))


def test_an_uploaded_file_becomes_a_result_file(deployed: Deployed) -> None:
    storage = deployed.storage
    storage.create("inbox/chapter.jsonl", requests(3).encode())
    deployed.drain()

    [batch] = Batches(storage).listed(after=None, limit=10)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    assert batch.output_file_id is not None
    lines = [json.loads(line) for line in Files(storage).content(batch.output_file_id).splitlines()]
    assert texts(lines) == {f"r{i}": greedy(f"She r{i}", 3) for i in range(3)}


def test_events_messages_and_jobs_become_results(deployed: Deployed) -> None:
    body = {"prompt": "She", "max_tokens": 4, "temperature": 0}
    entry = {"Source": "shop", "DetailType": "Completion Requested", "Detail": json.dumps(body)}
    [sent] = boto3.client("events").put_events(Entries=[entry])["Entries"]
    deployed.request_queue.send(body, request_id="message")
    Jobs(deployed.storage).create(JobRequest(id="job_1", created_at=1, body=body))
    deployed.drain()

    results = list(deployed.storage.keys("results/"))
    assert results == [
        f"results/eventbridge/{sent['EventId']}.json",
        "results/jobs/job_1.json",
        "results/sqs/message.json",
    ]
    job = Jobs(deployed.storage).get("job_1")
    assert job.response is not None
    assert job.response.body["choices"][0]["text"] == greedy("She", 4)


def test_what_can_never_be_answered_is_with_the_dead_letters(deployed: Deployed) -> None:
    deployed.request_queue.send('{"colour": 1}')
    deployed.storage.create("inbox/gone.jsonl", b"{}")
    deployed.storage.delete("inbox/gone.jsonl")
    deployed.drain()

    reasons = [each["MessageAttributes"]["error"]["StringValue"] for each in deployed.dead_letters.receive()]
    assert sorted(reasons) == [
        "invalid_value: Unknown field: `colour`.",
        "not_found: inbox/gone.jsonl is not there any more.",
    ]
