"""Bounds what is read of a request's body, before anything parses it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handler.api.errors import error_response
from handler.errors import PayloadTooLargeError

# A file that is too large for one body has another way in.
FILES = "/v1/files"
UPLOADS = "/v1/uploads"

# No limit has as many, and Python refuses to read thousands.
_MOST_DIGITS = 20


class BodyLimitMiddleware:
    """Refuses a body of more than `limit` bytes: by its declared length, unread, or where it exceeds the limit."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the limit and pass it on in one piece, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(declared[:_MOST_DIGITS]) if declared.isdigit() else 0
        body = b""
        while size <= self._limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                return  # what has come is not what was asked, and nobody waits for an answer
            body += message.get("body", b"")
            size = max(size, len(body))
            if not message.get("more_body", False):
                break
        if size > self._limit:
            hint = f" {UPLOADS} takes larger files, in parts." if scope["path"] == FILES else ""
            error = PayloadTooLargeError(
                f"The body may have at most {self._limit} bytes; given: at least {size}.{hint}"
            )
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, replaying(body, receive), send)


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out a body that was read, once more, and then what the client does next."""
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
