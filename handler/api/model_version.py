"""Names, in each response that a model had a part in, the version that it was: `x-model-version`."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-model-version"


class ModelVersionMiddleware:
    """Adds the header where a route was given a model; see `dependencies.Service`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the header to its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start" and "model_version" in state:
                MutableHeaders(scope=message)[HEADER] = state["model_version"]
            await send(message)

        await self._app(scope, receive, send_with_version)
