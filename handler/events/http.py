"""HTTP requests, in the four shapes AWS wraps them: API Gateway 1.0 and 2.0, function URL, load balancer."""

from typing import Any

from mangum import Mangum
from starlette.types import ASGIApp

from handler.deadline import LambdaContext
from handler.errors import InvalidRequestError
from handler.events.adapter import LambdaEvent


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
            return self._mangum(event, context)  # type: ignore[arg-type]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # What goes wrong in the application is answered inside it: these come from an event that lacks a part.
            raise InvalidRequestError(f"The event looks like HTTP but lacks a part Mangum needs: {error}.") from error
