"""HTTP requests, in the four shapes AWS wraps them: API Gateway 1.0 and 2.0, function URL, load balancer."""

import json
from typing import Any

from mangum import Mangum
from starlette.types import ASGIApp

from handler.api.errors import error_response
from handler.api.request_id import HEADER as REQUEST_ID
from handler.deadline import LambdaContext
from handler.errors import AnswerTooLargeError, InvalidRequestError
from handler.events.adapter import LambdaEvent

# In bytes, as JSON. Lambda ends the invocation with an error of its own where it is more, which a gateway answers with
# a 5xx; a load balancer takes less (Elastic Load Balancing, "Lambda functions as targets").
LARGEST_ANSWER = 6 * 2**20
LARGEST_BALANCED_ANSWER = 2**20

# What a response has beside its body, generously.
_ENVELOPE = 20_000


class HttpAdapter:
    """Hands HTTP-shaped events to the application through Mangum."""

    description = "HTTP (API Gateway 1.0 or 2.0, function URL, load balancer): `requestContext` and a method"

    def __init__(self, app: ASGIApp) -> None:
        # With lifespan "auto" Mangum would run the application's start and stop at every single request.
        self._mangum = Mangum(app, lifespan="off")  # type: ignore[arg-type]

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event wraps an HTTP request."""
        context = event.get("requestContext")
        if not isinstance(context, dict):
            return False
        return "elb" in context or "version" in event or "resource" in event

    def handle(self, event: LambdaEvent, context: LambdaContext) -> Any:
        """The response in the shape its source wants."""
        try:
            answer = self._mangum(event, context)  # type: ignore[arg-type]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # What goes wrong in the application is answered inside it: these come from an event that lacks a part.
            raise InvalidRequestError(f"The event looks like HTTP but lacks a part Mangum needs: {error}.") from error
        most = LARGEST_BALANCED_ANSWER if "elb" in event["requestContext"] else LARGEST_ANSWER
        # To write it once more takes time, and no character takes more than four bytes.
        if 4 * len(answer["body"]) + _ENVELOPE > most and (size := _size(answer)) > most:
            return _too_large(size, most, answer, event, context)
        return answer


def _size(answer: Any) -> int:
    """The bytes of a response as the runtime client writes it."""
    return len(json.dumps(answer, ensure_ascii=False).encode())


def _too_large(size: int, most: int, answer: Any, event: LambdaEvent, context: LambdaContext) -> Any:
    """What is answered in place of more than can be: in the shape of the source, under the same id."""
    response = error_response(
        AnswerTooLargeError(
            f"The answer may have at most {most} bytes where it comes in one piece; it would have {size}. Ask for "
            "fewer choices, tokens or log-probabilities, or where responses stream."
        )
    )
    headers = answer.get("headers") or {name: values[0] for name, values in answer["multiValueHeaders"].items()}
    response.headers[REQUEST_ID] = headers[REQUEST_ID]
    return Mangum(response, lifespan="off")(event, context)  # type: ignore[arg-type]
