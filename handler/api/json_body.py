"""Reads JSON bodies: strictly, in a thread, and in steps so short that the event loop gets its turn between them.

Python's parser takes more than JSON has (RFC 8259): NaN, a byte order mark, UTF-16; and of two equal names it keeps the
last, where another program would keep the first. One call of it, or of pydantic, is interrupted by nothing, in a thread
as little as anywhere. Its time grows with the number of values, so these are counted beforehand.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from handler.api.validation import StrictBody, parse_body, printable
from handler.errors import InvalidRequestError, PayloadTooLargeError

_Body = TypeVar("_Body", bound=StrictBody)

# The tokens of 16 prompts of 1,024, and what else a request holds. So many are parsed, and validated, in less than two
# milliseconds each; and while two threads are at it, the event loop may have to wait for both.
MOST_VALUES = 20_000

# One object may have as many; for each that is wrong, pydantic writes an error, though the first is all that is told.
MOST_FIELDS = 2048

# The longest number that means anything as a float, or as an integer of 64 bits, and some more.
_LONGEST_NUMBER = 400

_STRING = re.compile(rb'"[^"]*+"')


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


def read_json(data: bytes) -> Any:
    """What some JSON holds.

    Raises:
        InvalidRequestError: it is no valid JSON, is nested too deeply, or names a field twice.
        PayloadTooLargeError: it holds too many values.
    """
    if not data:
        raise InvalidRequestError("The body must be a JSON object; given: nothing.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"The body must be UTF-8; given: the byte 0x{data[error.start]:02x} at position {error.start}."
        ) from None
    if text.startswith("\ufeff"):
        raise InvalidRequestError("The body must be JSON alone; given: a byte order mark before it.")
    if _separators(data) > MOST_VALUES:
        raise PayloadTooLargeError(f"The body may hold at most {MOST_VALUES} values; given: more.")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"The body is not valid JSON: {error.msg}, at character {error.pos}.") from None
    except RecursionError:
        raise InvalidRequestError("The body is nested too deeply.") from None


def _separators(data: bytes) -> int:
    """How many commas separate values, or some number above `MOST_VALUES`; strings are looked at only if it matters."""
    if data.count(b",") <= MOST_VALUES:
        return data.count(b",")
    data = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # so that every quotation mark begins or ends a string
    separators = end = 0
    for string in _STRING.finditer(data):
        separators += data.count(b",", end, string.start())
        end = string.end()
        if separators > MOST_VALUES:
            return separators
    return separators + data.count(b",", end)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_FIELDS:
        raise PayloadTooLargeError(f"An object of the body may have at most {MOST_FIELDS} fields; given: {len(pairs)}.")
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name = printable(next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1))
        raise InvalidRequestError(f"`{name}` is given more than once.", param=name)
    return fields


def _integer(digits: str) -> int:
    return int(_number(digits))


def _float(digits: str) -> float:
    return float(_number(digits))


def _number(digits: str) -> str:
    if len(digits) > _LONGEST_NUMBER:
        raise InvalidRequestError(
            f"The body holds a number of more than {_LONGEST_NUMBER} digits; given: {len(digits)}."
        )
    return digits


def _no_number(name: str) -> NoReturn:
    raise InvalidRequestError(f"The body is not valid JSON: {name} is no number there.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_no_number
)
