"""EventBridge: requests as events of our own type, delivered to the function or by way of a queue, and schedules.

A schedule keeps an environment warm: it reads every weight once, by generating one token.
"""

import json
from collections.abc import Mapping
from typing import Any

from handler.completion import TextRequest
from handler.deadline import LambdaContext, deadline_of
from handler.events.adapter import LambdaEvent
from handler.events.messages import Message, MessageWorker
from handler.loading import ModelLoading

REQUEST_TYPE = "Completion Requested"

SCHEDULE_TYPE = "Scheduled Event"
SCHEDULE_SOURCES = ("aws.events", "aws.scheduler")


class EventBridgeAdapter:
    """Answers requests that come as events; the result is in the bucket, under the event's id."""

    description = f"EventBridge: `id`, `detail-type` `{REQUEST_TYPE}`, `detail` a completions body"

    def __init__(self, worker: MessageWorker) -> None:
        self._worker = worker

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event is a request."""
        return is_request(event)

    def handle(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """The number of requests answered.

        Raises:
            ServiceError: it is not answered; EventBridge tries again, and then keeps it with the error beside it.
        """
        [error] = self._worker.answer([message_of(event)], context)
        if error is not None:
            raise error
        return {"answered": 1}


class ScheduleAdapter:
    """Answers a schedule with what is warm now."""

    description = f"Schedule: `detail-type` `{SCHEDULE_TYPE}`, `source` `aws.events` or `aws.scheduler`"

    def __init__(self, loading: ModelLoading) -> None:
        self._loading = loading

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event is a schedule's."""
        return event.get("detail-type") == SCHEDULE_TYPE and event.get("source") in SCHEDULE_SOURCES

    def handle(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """Touch the model."""
        deadline = deadline_of(event, context)
        service = self._loading.wait(deadline)
        service.complete(TextRequest(prompts=[""], max_tokens=1, deadline=deadline))
        return {"warm": service.model.name, "version": service.model.version}


def is_request(event: Mapping[str, Any]) -> bool:
    """Whether an event is a request for a completion, with all its parts."""
    return (
        event.get("detail-type") == REQUEST_TYPE
        and isinstance(event.get("id"), str)
        and isinstance(event.get("detail"), Mapping)
    )


def message_of(event: Mapping[str, Any]) -> Message:
    """The message in a request; its id is the event's, which is the same at every delivery."""
    return Message("eventbridge", json.dumps(event["detail"]), event["id"])
