"""The SQS queue of requests, as a process sees it that takes messages itself: received, kept from others, done with."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Final

import boto3
from botocore.config import Config

from handler.events.adapter import LambdaEvent
from handler.events.sqs import SOURCE
from handler.kept.storage import MAKING_CLIENTS

# SQS hands out, and takes back, at most so many messages in one request.
MOST_AT_ONCE: Final = 10

# As many connections as messages may end at the same time; a connection more is opened, and closed again.
_CONNECTIONS: Final = 32


class RequestQueue:
    """One queue, from any thread. Every method raises BotoCoreError or ClientError when SQS does not do as asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        # A poll waits up to 20 seconds for its first byte.
        config = Config(
            connect_timeout=2,
            read_timeout=25,
            retries={"total_max_attempts": 3, "mode": "standard"},
            max_pool_connections=_CONNECTIONS,
        )
        with MAKING_CLIENTS:
            self._client: Any = boto3.client("sqs", config=config)

    @cached_property
    def arn(self) -> str:
        """The queue's ARN."""
        answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        arn: str = answer["Attributes"]["QueueArn"]
        return arn

    def receive(self, most: int, *, wait: int, visibility: int) -> list[LambdaEvent]:
        """Take messages, in the form in which Lambda hands them over.

        Args:
            most: how many at most; SQS gives at most ten.
            wait: seconds to wait for the first one.
            visibility: seconds for which nobody else is given them.
        """
        arn = self.arn  # asked for before there are messages that a failure would lose sight of
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=min(most, MOST_AT_ONCE),
            WaitTimeSeconds=wait,
            VisibilityTimeout=visibility,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [_record(message, arn) for message in answer.get("Messages", [])]

    def delete(self, handle: str) -> None:
        """Be done with a message."""
        self._client.delete_message(QueueUrl=self._url, ReceiptHandle=handle)

    def hide(self, handles: Sequence[str], seconds: int) -> None:
        """Have messages given to nobody for so long from now on; 0 gives them back. One that is gone is passed over."""
        rest = iter(handles)
        while some := list(islice(rest, MOST_AT_ONCE)):
            entries = [
                {"Id": str(i), "ReceiptHandle": handle, "VisibilityTimeout": seconds} for i, handle in enumerate(some)
            ]
            self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


def _record(message: Mapping[str, Any], arn: str) -> LambdaEvent:
    """A message in the form in which Lambda hands it over."""
    attributes = message.get("MessageAttributes", {})
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {
            name: {"dataType": attribute["DataType"], "stringValue": attribute.get("StringValue")}
            for name, attribute in attributes.items()
        },
        "eventSource": SOURCE,
        "eventSourceARN": arn,
    }
