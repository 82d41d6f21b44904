"""What every event source has in common: does an event come from it, and what is the answer."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from handler.deadline import LambdaContext

LambdaEvent: TypeAlias = Mapping[str, Any]


class EventAdapter(Protocol):
    """One event source; the entry point asks each in turn."""

    description: str
    """How an event of this source is recognised, for whoever sent one that is not."""

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event comes from this source."""

    def handle(self, event: LambdaEvent, context: LambdaContext) -> Any:
        """Answer the event with what its source expects; ServiceError tells it why not."""


def has_records_of(event: LambdaEvent, field: str, source: str) -> bool:
    """Whether the event is a list of records, all of this source."""
    records = event.get("Records")
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(record, Mapping) and record.get(field) == source for record in records)
    )
