"""A worker over the fake engine, with moto's server for its bucket and queues: real requests over real connections."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from handler.events.messages import MessageWorker
from handler.events.s3 import S3Adapter
from handler.events.sending import Sender
from handler.events.sqs import DELIVERIES, SqsAdapter
from handler.inference.generation import QueuedGeneration
from handler.inference.protocol import GenerationRequest, Load
from handler.inference.routing import Routing
from handler.inference.scheduler import Scheduler
from handler.loading import ModelLoading
from handler.service import TextService
from lifecycle.local.cloud import RESULTS_BUCKET
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.services import MANIFEST, VOCABULARY, make_settings


@dataclass
class Context:
    """The part of Lambda's context that the function looks at."""

    milliseconds: int = 20_000
    aws_request_id: str = "0f1e2d3c"

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


class GatedEngine(FakeEngine):
    """Reads no prompt before so many requests wait: what a test expects to be decoded together, is."""

    def __init__(self, together: int) -> None:
        super().__init__(max(together, 8), vocabulary_size=VOCABULARY)
        self.together = together
        self.gate = threading.Event()

    def prefill(self, slots: Sequence[int], chunks: Sequence[Sequence[int]], *, all_logits: bool = False) -> Any:
        assert self.gate.wait(30)
        return super().prefill(slots, chunks, all_logits=all_logits)


class CountingScheduler(Scheduler):
    """Counts requests, checks and looks at its load, and opens the engine's gate when enough requests are there."""

    def __init__(self, engine: FakeEngine) -> None:
        # Without drafts a step is one token of every choice, which is what the tests count.
        super().__init__(engine, drafting=False)
        self._gated = engine if isinstance(engine, GatedEngine) else None
        self._counting = threading.Lock()
        self.submitted = 0
        self.checks = 0
        self.looks = 0

    def check(self) -> None:
        self.checks += 1
        super().check()

    def load(self) -> Load:
        self.looks += 1
        return super().load()

    def submit(self, request: GenerationRequest) -> QueuedGeneration:
        generation = super().submit(request)
        with self._counting:
            self.submitted += 1
            if self._gated is not None and self.submitted == self._gated.together:
                self._gated.gate.set()
        return generation


@dataclass
class Worker:
    """A worker and what it works with."""

    adapter: SqsAdapter
    s3: S3Adapter
    engine: FakeEngine
    scheduler: CountingScheduler
    loading: ModelLoading


@contextmanager
def running_worker(
    engine: FakeEngine | None = None, bucket: str = RESULTS_BUCKET, *, exact: FakeEngine | None = None
) -> Iterator[Worker]:
    """A worker whose every token is known in advance; with `exact` it has two engines, as on a GPU."""
    engine = engine or FakeEngine(vocabulary_size=VOCABULARY)
    scheduler = CountingScheduler(engine)
    backend = scheduler if exact is None else Routing(scheduler, Scheduler(exact))
    service = TextService(MANIFEST, tiny_tokenizer(VOCABULARY), backend, make_settings())
    loading = ModelLoading(lambda: service)
    loading.wait(None)
    sender = Sender()
    try:
        s3 = S3Adapter(loading, sender, bucket)
        yield Worker(SqsAdapter(MessageWorker(loading, sender, bucket), s3, sender), s3, engine, scheduler, loading)
    finally:
        backend.close()


@dataclass
class Queue:
    """A queue of moto's."""

    client: Any
    name: str
    attributes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.url = self.client.create_queue(QueueName=self.name, Attributes=self.attributes)["QueueUrl"]
        self.arn = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]

    def send(self, body: object, **attributes: str) -> None:
        typed = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        text = body if isinstance(body, str) else json.dumps(body)
        self.client.send_message(QueueUrl=self.url, MessageBody=text, MessageAttributes=typed)

    def receive(self) -> list[dict[str, Any]]:
        answer = self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def is_taken(self) -> bool:
        """Whether no message waits for a receiver."""
        return self._counts()[0] == 0

    def is_empty(self) -> bool:
        """Whether there is no message, waiting or with a receiver."""
        return self._counts() == (0, 0)

    def _counts(self) -> tuple[int, int]:
        """How many messages wait, and how many are with a receiver."""
        waiting, received = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=[waiting, received])
        return int(answer["Attributes"][waiting]), int(answer["Attributes"][received])

    def deliver(self, worker: Worker, context: Context | None = None) -> dict[str, Any]:
        """Do what Lambda's poller does: receive, invoke, and delete all that did not fail."""
        messages = self.receive()
        answer = worker.adapter.handle(self.event(messages), context or Context())
        failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        for message in messages:
            if message["MessageId"] in failed:
                self.release(message)
            else:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return answer

    def release(self, message: dict[str, Any]) -> None:
        """Let a message be delivered again at once."""
        self.client.change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )

    def event(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Messages as Lambda's event source mapping hands them to the function."""
        return {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "messageAttributes": {
                        name: {
                            "stringValue": attribute["StringValue"],
                            "stringListValues": [],
                            "binaryListValues": [],
                            "dataType": attribute["DataType"],
                        }
                        for name, attribute in message.get("MessageAttributes", {}).items()
                    },
                    "md5OfBody": message["MD5OfBody"],
                    "eventSource": "aws:sqs",
                    "eventSourceARN": self.arn,
                    "awsRegion": "us-east-1",
                }
                for message in messages
            ]
        }


class Place:
    """What lies around a worker: its queue, that queue's dead letters, a queue for replies, and the results bucket."""

    def __init__(self, s3: Any, sqs: Any) -> None:
        self.s3 = s3
        self.dead_letters = Queue(sqs, "dead-letters")
        redrive = json.dumps({"deadLetterTargetArn": self.dead_letters.arn, "maxReceiveCount": DELIVERIES})
        self.queue = Queue(sqs, "requests", {"RedrivePolicy": redrive})
        self.replies = Queue(sqs, "replies")

    def results(self) -> dict[str, Any]:
        """Everything in the results bucket, by key."""
        listing = self.s3.list_objects_v2(Bucket=RESULTS_BUCKET).get("Contents", [])
        return {each["Key"]: json.loads(self.read(each["Key"])) for each in listing}

    def read(self, key: str) -> bytes:
        data: bytes = self.s3.get_object(Bucket=RESULTS_BUCKET, Key=key)["Body"].read()
        return data


TOKENIZER = tiny_tokenizer(VOCABULARY)


def greedy(prompt: str, tokens: int) -> str:
    """What the fake engine continues a prompt with."""
    return TOKENIZER.decode(continuation(TOKENIZER.encode(prompt), tokens, VOCABULARY))


def text_of(result: dict[str, Any]) -> str:
    text: str = result["response"]["choices"][0]["text"]
    return text


def digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()
