"""Says what is wrong with a request: the field, the bound, and what was given, in one sentence.

What was given is described, not repeated, wherever it could be somebody's text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from handler.errors import InvalidRequestError, UnsupportedParameterError

_Body = TypeVar("_Body", bound="StrictBody")

# The type of the errors of `unsupported.py`.
UNSUPPORTED: Final = "unsupported"

_LONGEST_NAME = 64


class StrictBody(BaseModel):
    """A request body that refuses unknown fields, converted types and numbers that are none."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def parse_body(body: type[_Body], fields: Mapping[str, Any]) -> _Body:
    """Validate fields that did not come through FastAPI.

    Raises:
        InvalidRequestError: says what is wrong.
    """
    try:
        return body.model_validate(fields)
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False)) from error


def invalid_request(errors: Sequence[Mapping[str, Any]]) -> InvalidRequestError:
    """The first of pydantic's errors as the error a client gets."""
    first = errors[0]
    path = [part for part in first["loc"] if part != "body"]
    if len(path) > 1 and path[0] in ("query", "path", "header"):
        del path[0]
    if not path and first["type"] == "string_unicode":
        return InvalidRequestError("The name of a field is not valid Unicode.")
    if not path:
        return InvalidRequestError(
            "The body must be a JSON object sent with `Content-Type: application/json`; "
            f"given: {describe(first['input'])}."
        )
    name = printable(path[0])
    # For a key of an object, pydantic appends "[key]" to the key itself.
    where = name + "".join(f"[{printable(part)}]" for part in path[1:] if part != "[key]")
    if first["type"] == "extra_forbidden":
        return InvalidRequestError(f"Unknown field: `{where}`.", param=name)
    if first["type"] == UNSUPPORTED:
        return UnsupportedParameterError(f"`{where}` is not supported: {first['msg']}.", param=name)
    if first["type"] == "missing":
        return InvalidRequestError(f"`{where}` is required.", param=name)
    message = first["msg"][0].lower() + first["msg"][1:]
    return InvalidRequestError(f"`{where}`: {message}; given: {describe(first['input'])}.", param=name)


def describe(value: object) -> str:
    """A value in a few words: numbers as they are, anything that holds text by its type and size."""
    if value is None or isinstance(value, bool | int | float):
        return printable(json.dumps(value))
    if isinstance(value, str | bytes):
        return f"a string of {len(value)} characters" if value else "an empty string"
    if isinstance(value, dict):
        return f"an object with {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)} items"
    return type(value).__name__


def printable(name: object) -> str:
    """A name or number from the request, short and safe to put into a message whatever it holds."""
    text = str(name)
    short = text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "..."
    return short.encode("utf-8", "backslashreplace").decode()
