"""Names, in each response that a model had a part in, the version that it was: `x-model-version`."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.response_headers import adding_headers

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

        def add(headers: MutableHeaders) -> None:
            if "model_version" in state:
                headers[HEADER] = state["model_version"]

        await self._app(scope, receive, adding_headers(send, add))
