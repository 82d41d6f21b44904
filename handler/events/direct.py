"""Direct invocations: the event is a completions body, `{"prompt": ...}` being the shortest."""

from typing import Any

from handler.api.completion_schemas import CompletionBody
from handler.api.completions import complete
from handler.api.validation import parse_body
from handler.deadline import LambdaContext, deadline_of
from handler.events.adapter import LambdaEvent
from handler.loading import ModelLoading


class DirectAdapter:
    """Answers with the completion object; errors are the function's, their type in `errorType`."""

    description = 'Direct: a `/v1/completions` body, `{"prompt": ...}` at least'

    def __init__(self, loading: ModelLoading) -> None:
        self._loading = loading

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event is a body rather than a wrapped one."""
        return "prompt" in event

    def handle(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """The completion."""
        body = parse_body(CompletionBody, event)
        deadline = deadline_of(event, context)
        return complete(body, self._loading.wait(deadline, body.model), deadline).model_dump()
