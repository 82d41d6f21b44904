"""Reads JSON bodies in a thread, so that the event loop gets its turn meanwhile."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from handler.api.strict_json import read_json
from handler.api.validation import StrictBody, parse_body, printable
from handler.errors import InvalidRequestError

_Body = TypeVar("_Body", bound=StrictBody)


class JsonRoute(APIRoute):
    """A route whose body, if it has one, is read by `read_json` before FastAPI sees it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a body that is valid already."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        kind = self.body_field.field_info.annotation
        assert isinstance(kind, type)  # noqa: S101 - every body here is such a class
        assert issubclass(kind, StrictBody)  # noqa: S101

        async def read_and_handle(request: Request) -> Response:
            data = await request.body()
            body = await run_in_threadpool(read_body, kind, data, request.headers.get("content-type", ""))
            return await handle(_ReadRequest(request, data, body))

        return read_and_handle


class _ReadRequest(Request):
    """A request whose body has been read; FastAPI takes an instance of the model it wants as it is."""

    def __init__(self, request: Request, data: bytes, body: StrictBody) -> None:
        super().__init__(request.scope, request.receive)
        self._data, self._value = data, body

    async def body(self) -> bytes:
        return self._data

    async def json(self) -> StrictBody:
        return self._value


def read_body(kind: type[_Body], data: bytes, content_type: str) -> _Body:
    """A body as the model it should be.

    Raises:
        InvalidRequestError: says what is wrong.
        PayloadTooLargeError: it holds too many values.
    """
    main, _, sub = content_type.partition(";")[0].strip().lower().partition("/")
    if main != "application" or not (sub == "json" or sub.endswith("+json")):
        given = f"`{printable(content_type)}`" if content_type else "none"
        raise InvalidRequestError(
            f"The body must be a JSON object sent with `Content-Type: application/json`; given: {given}."
        )
    return parse_body(kind, read_json(data))
