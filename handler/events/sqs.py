"""SQS: each message a completions body, a bare prompt, or an event of EventBridge that holds a body or tells of S3.

All requests of a batch are decoded together. What failed for now is named in the answer (partial batch response) and
SQS delivers it again. What can never succeed, or has failed five times, is sent to the queue's dead-letter queue by us,
with the reason as an attribute, and only then reported as done: left to SQS it would arrive there without a word.

A process that is killed in its work can do none of that. So there is a sixth delivery, in which a message is not worked
on any more. If sending it fails, the message stays in the queue, and SQS moves it in the end.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from handler.deadline import LambdaContext
from handler.errors import AbandonedError, BatchFailedError, InvalidRequestError, ServiceError
from handler.events.adapter import LambdaEvent, has_records_of
from handler.events.eventbridge import is_request, message_of
from handler.events.messages import Message, MessageWorker, attempt
from handler.events.s3 import S3Adapter, is_creation
from handler.events.sending import Sender
from handler.telemetry import logger
from handler.work.background import ATTEMPTS

SOURCE = "aws:sqs"

REASON = "error"

# The queues' maxReceiveCount, after which SQS moves a message by itself.
DELIVERIES = ATTEMPTS + 1

_ABANDONED = f"It was begun {ATTEMPTS} times, and each time the process ended that worked on it."

# SQS takes ten attributes, and one is the reason.
KEPT_ATTRIBUTES = 9


class SqsAdapter:
    """Answers with the messages that failed."""

    description = "SQS: `Records` with `eventSource` `aws:sqs`, each `body` a completions body or a prompt"

    def __init__(self, worker: MessageWorker, s3: S3Adapter, sender: Sender) -> None:
        self._worker = worker
        self._s3 = s3
        self._sender = sender

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event holds messages of a queue."""
        return has_records_of(event, "eventSource", SOURCE)

    def handle(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """The partial batch response.

        Raises:
            BatchFailedError: every single message failed, so that the invocation counts as failed as well.
        """
        records = event["Records"]
        errors = self.answer(records, context)
        failed = [(record, error) for record, error in zip(records, errors, strict=True) if error is not None]
        if len(failed) == len(records):
            raise BatchFailedError(f"All {len(records)} messages failed, the first with: {failed[0][1].message}")
        logger.info("messages", received=len(records), returned=len(failed))
        return {"batchItemFailures": [{"itemIdentifier": str(record["messageId"])} for record, _ in failed]}

    def answer(self, records: Sequence[LambdaEvent], context: LambdaContext) -> list[ServiceError | None]:
        """Answer messages, all of them together.

        Args:
            records: the messages, as Lambda hands them over.
            context: how much time there is.

        Returns:
            For each message None, if it is done with (answered, or buried with the reason), or else the error for which
            it should be delivered again.

        Raises:
            InvalidRequestError: a record lacks a part.
        """
        try:
            parts = [_part(record) for record in records]
            deliveries = [_deliveries(record) for record in records]
            ids = [str(record["messageId"]) for record in records]
        except (KeyError, TypeError, AttributeError, ValueError) as fault:
            raise InvalidRequestError(f"The event looks like SQS but a record lacks a part: {fault}.") from fault
        worked_on = [part for part, count in zip(parts, deliveries, strict=True) if count <= ATTEMPTS]
        outcomes = iter(self._outcomes(worked_on, context))
        answers: list[ServiceError | None] = []
        for id_, record, part, count in zip(ids, records, parts, deliveries, strict=True):
            error = next(outcomes) if count <= ATTEMPTS else AbandonedError(_ABANDONED)
            if error is not None and (error.is_final or count >= ATTEMPTS):
                self._give_up(part, error)
                if self._bury(record, error):
                    error = None
            if error is not None:
                logger.warning("message returned", message_id=id_, code=error.code, reason=error.message)
            answers.append(error)
        return answers

    def _outcomes(self, parts: Sequence[Message | LambdaEvent], context: LambdaContext) -> list[ServiceError | None]:
        """What became of each part; requests and events are worked on at the same time."""
        requests = [part for part in parts if isinstance(part, Message)]
        events = [part for part in parts if not isinstance(part, Message)]
        with ThreadPoolExecutor(max(1, len(events)), "event") as pool:
            told = pool.map(lambda event: self._told(event, context), events)
            answered = iter(self._worker.answer(requests, context) if requests else [])
        return [next(answered) if isinstance(part, Message) else next(told) for part in parts]

    def _told(self, event: LambdaEvent, context: LambdaContext) -> ServiceError | None:
        outcome = attempt(partial(self._s3.handle, event, context))
        return outcome if isinstance(outcome, ServiceError) else None

    def _give_up(self, part: Message | LambdaEvent, error: ServiceError) -> None:
        """Tell whoever asks for a job or a batch that nobody will work on it any more."""
        if not isinstance(part, Message):
            failure = attempt(partial(self._s3.give_up, part, error))
            if isinstance(failure, ServiceError):
                logger.error("not given up", code=failure.code, reason=failure.message)

    def _bury(self, record: Mapping[str, Any], error: ServiceError) -> bool:
        """Send a message to the dead-letter queue of its queue; whether it is there."""
        reason = f"{error.code}: {error.message}"
        try:
            queue = self._sender.dead_letter_queue_of(record.get("eventSourceARN", ""))
            if queue is None:
                return False
            kept = dict(list(_text_attributes(record).items())[:KEPT_ATTRIBUTES])
            # SQS refuses control characters.
            printable = "".join(character if character.isprintable() else "?" for character in reason)
            self._sender.to_queue(queue, record["body"], {**kept, REASON: printable})
        except ServiceError as failure:
            logger.error("message not buried", message_id=record["messageId"], reason=failure.message)
            return False
        logger.warning("message buried", message_id=record["messageId"], code=error.code, reason=error.message)
        return True


def _deliveries(record: Mapping[str, Any]) -> int:
    """How often the message has been delivered, this time included."""
    return int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))


def _part(record: Mapping[str, Any]) -> Message | LambdaEvent:
    """A message's request, or the event of S3 that one of EventBridge's rules put there."""
    body = record["body"]
    if not isinstance(body, str):
        raise TypeError("`body` must be a string")
    event = _object_in(body)
    if is_creation(event):
        return event
    if is_request(event):
        return message_of(event)
    attributes = _text_attributes(record)
    return Message(
        "sqs",
        body,
        attributes.get("request_id"),
        attributes.get("reply_queue"),
        attributes.get("reply_bus"),
    )


def _object_in(body: str) -> LambdaEvent:
    """The JSON object that a message holds, or an empty one."""
    try:
        value = json.loads(body) if body.lstrip().startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text_attributes(record: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: attribute["stringValue"]
        for name, attribute in record.get("messageAttributes", {}).items()
        if attribute.get("stringValue")
    }
