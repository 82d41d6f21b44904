"""SNS: each notification a completions body or a bare prompt, delivered to the function itself."""

from typing import Any

from handler.deadline import LambdaContext
from handler.errors import InvalidRequestError
from handler.events.adapter import LambdaEvent, has_records_of
from handler.events.messages import Message, MessageWorker

SOURCE = "aws:sns"


class SnsAdapter:
    """Answers notifications; the results are in the bucket."""

    description = "SNS: `Records` with `EventSource` `aws:sns`, each `Message` a completions body or a prompt"

    def __init__(self, worker: MessageWorker) -> None:
        self._worker = worker

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event holds notifications of a topic."""
        return has_records_of(event, "EventSource", SOURCE)

    def handle(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """The number of notifications answered.

        Raises:
            ServiceError: one of them is not; Lambda tries again, and what was answered before is not done twice.
        """
        try:
            messages = [_message(record["Sns"]) for record in event["Records"]]
        except (KeyError, TypeError, AttributeError) as fault:
            raise InvalidRequestError(f"The event looks like SNS but a record lacks a part: {fault}.") from fault
        for error in self._worker.answer(messages, context):
            if error is not None:
                raise error
        return {"answered": len(messages)}


def _message(notification: Any) -> Message:
    text = notification["Message"]
    if not isinstance(text, str):
        raise TypeError("`Message` must be a string")
    attributes = {
        name: attribute["Value"]
        for name, attribute in notification.get("MessageAttributes", {}).items()
        if attribute["Type"] == "String"
    }
    return Message(
        "sns", text, attributes.get("request_id"), attributes.get("reply_queue"), attributes.get("reply_bus")
    )
