"""SQS: each message a completions body, a bare prompt, or an event of EventBridge that holds a body.

The whole batch is decoded together. What failed for now is named in the answer (partial batch response) and SQS
delivers it again. What can never succeed is sent to the queue's dead-letter queue by us, with the reason as an
attribute, and only then reported as done: left to SQS it would be tried in vain four times more and arrive there
without a word. If that sending fails, the message stays in the queue, and SQS moves it in the end.
"""

import json
from collections.abc import Mapping
from typing import Any

from handler.deadline import LambdaContext
from handler.errors import BatchFailedError, InvalidRequestError, ServiceError
from handler.events.adapter import LambdaEvent, has_records_of
from handler.events.eventbridge import is_request, message_of
from handler.events.messages import Message, MessageWorker, is_final
from handler.events.sending import Sender
from handler.telemetry import logger

SOURCE = "aws:sqs"

REASON = "error"

# SQS takes ten attributes, and one is the reason.
KEPT_ATTRIBUTES = 9


class SqsAdapter:
    """Answers with the messages that failed."""

    description = "SQS: `Records` with `eventSource` `aws:sqs`, each `body` a completions body or a prompt"

    def __init__(self, worker: MessageWorker, sender: Sender) -> None:
        self._worker = worker
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
        try:
            messages = [_message(record) for record in records]
            ids = [str(record["messageId"]) for record in records]
        except (KeyError, TypeError, AttributeError) as fault:
            raise InvalidRequestError(f"The event looks like SQS but a record lacks a part: {fault}.") from fault
        failed: list[tuple[str, ServiceError]] = []
        for id_, record, error in zip(ids, records, self._worker.answer(messages, context), strict=True):
            if error is None or (is_final(error) and self._bury(record, error)):
                continue
            logger.warning("message returned", message_id=id_, code=error.code, reason=error.message)
            failed.append((id_, error))
        if len(failed) == len(ids):
            raise BatchFailedError(f"All {len(ids)} messages failed, the first with: {failed[0][1].message}")
        logger.info("messages", received=len(ids), returned=len(failed))
        return {"batchItemFailures": [{"itemIdentifier": id_} for id_, _ in failed]}

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


def _message(record: Mapping[str, Any]) -> Message:
    attributes = _text_attributes(record)
    if not isinstance(record["body"], str):
        raise TypeError("`body` must be a string")
    event = _event_in(record["body"])
    if event is not None:
        return message_of(event)
    return Message(
        "sqs",
        record["body"],
        attributes.get("request_id"),
        attributes.get("reply_queue"),
        attributes.get("reply_bus"),
    )


def _event_in(body: str) -> Mapping[str, Any] | None:
    """The event of EventBridge that a message holds, where one of its rules filled the queue."""
    if not body.lstrip().startswith("{"):
        return None
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return event if is_request(event) else None


def _text_attributes(record: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: attribute["stringValue"]
        for name, attribute in record.get("messageAttributes", {}).items()
        if attribute.get("stringValue")
    }
