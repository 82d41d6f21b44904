"""Gives every request an id, or keeps the one it comes with: in its response's `x-request-id`, and in the log."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.response_headers import adding_headers
from handler.telemetry import logger

HEADER = "x-request-id"

# Whatever else somebody sends would end up in our log.
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestIdMiddleware:
    """Stands before everything else, so that refusals have an id, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        logger.thread_safe_append_keys(request_id=request_id)  # for this task, and the threads that work for it

        def add(headers: MutableHeaders) -> None:
            headers[HEADER] = request_id

        await self._app(scope, receive, adding_headers(send, add))
