"""Bulk: the steps of the state machine in infra/bulk.yaml, each an invocation that ends with what was done."""

from typing import Annotated, Any, Literal

from pydantic import Field

from handler.api.validation import StrictBody, parse_body
from handler.deadline import LambdaContext, deadline_of
from handler.errors import InvalidRequestError
from handler.events.adapter import LambdaEvent
from handler.events.keeping import ResultsBucket
from handler.loading import ModelLoading

# Of the ranges that have no result so many are named: what a state hands on is bounded.
MOST_MISSING = 100

Key = Annotated[str, Field(min_length=1, max_length=1024)]


class SplitEvent(StrictBody):
    """Cut an object of the results bucket into ranges."""

    bulk: Literal["split"]
    input: Key


class PartEvent(StrictBody):
    """Answer a range of it."""

    bulk: Literal["part"]
    input: Key
    etag: str
    first: int
    end: int


class JoinEvent(StrictBody):
    """Join what came of all ranges."""

    bulk: Literal["join"]
    input: Key
    etag: str


class BulkAdapter:
    """Answers with what the state machine's next step needs: keys and counts, never lines."""

    description = 'Bulk: `bulk` is "split", "part" or "join", as the state machine sends it'

    def __init__(self, loading: ModelLoading, results_bucket: str) -> None:
        self._loading = loading
        self._bucket = ResultsBucket(results_bucket)

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event is a step's."""
        return "bulk" in event

    def handle(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """Take a step.

        Raises:
            ServiceError: it cannot be taken; the state machine tries again where that may help.
        """
        match event["bulk"]:
            case "split":
                return self._split(parse_body(SplitEvent, event))
            case "part":
                return self._answer(parse_body(PartEvent, event), deadline_of({}, context))
            case "join":
                return self._join(parse_body(JoinEvent, event), deadline_of({}, context))
        raise InvalidRequestError("`bulk` must be split, part or join.", param="bulk")

    def _split(self, event: SplitEvent) -> dict[str, Any]:
        from handler.work.bulk.runs import INPUTS  # noqa: PLC0415 - HTTP does without it
        from handler.work.bulk.split import split  # noqa: PLC0415

        if not event.input.startswith(INPUTS):
            raise InvalidRequestError(f"`input` must be an object below {INPUTS} of the results bucket.", param="input")
        run, ranges = split(self._bucket.storage, event.input)
        return {
            "run": run.id,
            "bucket": self._bucket.name,
            "input": run.source,
            "etag": run.etag,
            "plan": run.plan_key,
            "ranges": ranges,
        }

    def _answer(self, event: PartEvent, deadline: float | None) -> dict[str, Any]:
        from handler.work.bulk.part import answer_part  # noqa: PLC0415 - likewise
        from handler.work.bulk.runs import Range, Run  # noqa: PLC0415

        run = Run(self._bucket.storage, event.input, event.etag)
        record = answer_part(run, Range(first=event.first, end=event.end), self._loading, deadline)
        return {"finished": False} if record is None else {"finished": True, **record.model_dump()}

    def _join(self, event: JoinEvent, deadline: float | None) -> dict[str, Any]:
        from handler.work.bulk.join import join  # noqa: PLC0415 - likewise
        from handler.work.bulk.runs import Run  # noqa: PLC0415

        run = Run(self._bucket.storage, event.input, event.etag)
        joined = join(run, deadline)
        if joined is None:
            return {"finished": False}
        return {
            "finished": True,
            "run": run.id,
            "bucket": self._bucket.name,
            "output": joined.output,
            "errors": joined.errors,
            "completed": joined.completed,
            "failed": joined.failed,
            "ranges_missing": len(joined.missing),
            "missing": [each.model_dump() for each in joined.missing[:MOST_MISSING]],
        }
