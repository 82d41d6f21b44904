"""Reads JSON strictly, from whoever sends it, and in steps so short that a thread that does leaves others their turn.

Python's parser takes more than JSON has (RFC 8259): NaN, a byte order mark, UTF-16; and of two equal names it keeps the
last, where another program would keep the first. One call of it, or of pydantic, is interrupted by nothing, in a thread
as little as anywhere. Its time grows with the number of values, so these are counted beforehand.
"""

import json
import re
from collections import Counter
from typing import Any, NoReturn

from handler.api.validation import printable
from handler.errors import InvalidRequestError, PayloadTooLargeError

# The tokens of 16 prompts of 1,024, and what else a request holds. So many are parsed, and validated, in less than two
# milliseconds each; and while two threads are at it, the event loop may have to wait for both.
MOST_VALUES = 20_000

# One object may have as many; for each that is wrong, pydantic writes an error, though the first is all that is told.
MOST_FIELDS = 2048

# The longest number that means anything as a float, or as an integer of 64 bits, and some more.
_LONGEST_NUMBER = 400

_STRING = re.compile(rb'"[^"]*+"')


def read_json(data: bytes, what: str = "body") -> Any:
    """What some JSON holds.

    Args:
        data: the JSON.
        what: what it is called in errors.

    Raises:
        InvalidRequestError: it is no valid JSON, is nested too deeply, or names a field twice.
        PayloadTooLargeError: it holds too many values.
    """
    if not data:
        raise InvalidRequestError(f"The {what} must be a JSON object; given: nothing.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"The {what} must be UTF-8; given: the byte 0x{data[error.start]:02x} at position {error.start}."
        ) from None
    if text.startswith("\ufeff"):
        raise InvalidRequestError(f"The {what} must be JSON alone; given: a byte order mark before it.")
    if _separators(data) > MOST_VALUES:
        raise PayloadTooLargeError(f"The {what} may hold at most {MOST_VALUES} values; given: more.")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"The {what} is not valid JSON: {error.msg}, at character {error.pos}.") from None
    except RecursionError:
        raise InvalidRequestError(f"The {what} is nested too deeply.") from None


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
        raise PayloadTooLargeError(f"An object may have at most {MOST_FIELDS} fields; given: {len(pairs)}.")
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
        raise InvalidRequestError(f"A number may have at most {_LONGEST_NUMBER} digits; given: {len(digits)}.")
    return digits


def _no_number(name: str) -> NoReturn:
    raise InvalidRequestError(f"{name} is no number in JSON.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_no_number
)
