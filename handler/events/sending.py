"""Sends to queues and event buses, and says what it means that one cannot be reached.

Queues are named by ARN, never by URL: a URL comes from a stranger's message, and would tell this function where to
send signed requests.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from handler.errors import SendingFailedError, SendingRefusedError

_QUEUE = re.compile(r"arn:[a-z-]+:sqs:([a-z0-9-]+):(\d{12}):([A-Za-z0-9_-]{1,80}(?:\.fifo)?)")
_THROTTLING = {"Throttling", "ThrottlingException", "RequestThrottled", "RequestLimitExceeded"}


class Sender:
    """Sends with the function's own rights; from any thread."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str | None], Any] = {}

    def to_queue(self, arn: str, body: str, attributes: Mapping[str, str] | None = None) -> None:
        """Send a message.

        Args:
            arn: the queue.
            body: the message.
            attributes: attributes of type String beside it, at most ten, none of them empty.

        Raises:
            SendingRefusedError: there is no such queue, or this function may not send there.
            SendingFailedError: SQS does not answer; worth trying again.
        """
        typed = {key: {"DataType": "String", "StringValue": value} for key, value in (attributes or {}).items()}
        with _translated("the queue"):
            sqs, url = self._queue(arn)
            sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=typed)

    def to_bus(self, name: str, source: str, kind: str, detail: str) -> None:
        """Put an event on a bus.

        Args:
            name: the bus, or its ARN.
            source: the event's `source`.
            kind: the event's `detail-type`.
            detail: the event's `detail`, a JSON object.

        Raises:
            SendingRefusedError: there is no such bus, or this function may not send there.
            SendingFailedError: EventBridge does not answer or has not taken the event; worth trying again.
        """
        entry = {"EventBusName": name, "Source": source, "DetailType": kind, "Detail": detail}
        with _translated("the event bus"):
            answer = self._client("events").put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise SendingFailedError(f"The event bus has not taken the event: {answer['Entries'][0]['ErrorCode']}.")

    def dead_letter_queue_of(self, arn: str) -> str | None:
        """The ARN of the dead-letter queue that a queue moves messages to, or None if it has none.

        Raises:
            SendingRefusedError: there is no such queue, or this function may not ask.
            SendingFailedError: SQS does not answer; worth trying again.
        """
        with _translated("the queue"):
            sqs, url = self._queue(arn)
            answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
        policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", "{}"))
        target: str | None = policy.get("deadLetterTargetArn")
        return target

    def _queue(self, arn: str) -> tuple[Any, str]:
        """A client of the queue's region, and its URL."""
        match = _QUEUE.fullmatch(arn)
        if match is None:
            raise SendingRefusedError(f"A queue must be named by an ARN that matches {_QUEUE.pattern}.")
        region, account, name = match.groups()
        sqs = self._client("sqs", region)
        return sqs, sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]

    def _client(self, service: str, region: str | None = None) -> Any:
        import boto3  # noqa: PLC0415 - requests over HTTP do without it, and it takes 0.2 s
        from botocore.config import Config  # noqa: PLC0415

        from handler.kept.storage import MAKING_CLIENTS  # noqa: PLC0415

        with MAKING_CLIENTS:
            if (service, region) not in self._clients:
                config = Config(
                    connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"}
                )
                self._clients[service, region] = boto3.client(service, region_name=region, config=config)
            return self._clients[service, region]


@contextmanager
def _translated(where: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - likewise

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        if 400 <= status < 500 and code not in _THROTTLING:
            raise SendingRefusedError(f"Sending to {where} is refused: {code}.") from error
        raise SendingFailedError(f"Sending to {where} failed: {code}.", retry_after=1) from error
    except BotoCoreError as error:
        raise SendingFailedError(f"Sending to {where} failed: {type(error).__name__}.", retry_after=1) from error
