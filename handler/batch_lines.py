"""The lines of a batch's input file: JSON objects, each a request with an id of its own."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handler.batches import BatchError

LARGEST_LINE = 1_000_000

# A file that is wrong throughout is not worth more.
MOST_ERRORS = 100

_FIELDS = {"custom_id", "method", "url", "body"}


@dataclass(frozen=True, slots=True)
class Line:
    """A request.

    Attributes:
        index: its place among the requests of the file, from 0.
        custom_id: what the sender knows it by.
        body: the body for the batch's endpoint, not yet looked at.
    """

    index: int
    custom_id: str
    body: Mapping[str, Any]


def parse_lines(data: bytes, endpoint: str) -> tuple[list[Line], list[BatchError]]:
    """Read a file in OpenAI's batch format: a byte order mark, CRLF, empty lines and a missing last newline are fine.

    Args:
        data: the file.
        endpoint: the `url` every request must have.

    Returns:
        The requests, and what is wrong with the file; of its errors the first `MOST_ERRORS`.
    """
    lines: list[Line] = []
    errors: list[BatchError] = []
    seen: dict[str, int] = {}
    for number, text in _numbered(data):
        if len(errors) >= MOST_ERRORS:
            break
        if len(text) > LARGEST_LINE:
            said = f"A line may have at most {LARGEST_LINE} bytes; given: {len(text)}."
            errors.append(BatchError(code="line_too_long", message=said, line=number))
            continue
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            errors.append(BatchError(code="invalid_json_line", message="The line is not valid JSON.", line=number))
            continue
        fault = next(_faults(request, endpoint, seen), None)
        if fault is not None:
            errors.append(fault.model_copy(update={"line": number}))
            continue
        seen[request["custom_id"]] = number
        lines.append(Line(len(lines), request["custom_id"], request["body"]))
    if not lines and not errors:
        errors.append(BatchError(code="empty_file", message="The file holds no request."))
    return lines, errors


def _numbered(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, text in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if text.strip():
            yield number, text.strip()


def _faults(request: Any, endpoint: str, seen: Mapping[str, int]) -> Iterator[BatchError]:
    """What is wrong with a line; only the first is asked for, and each check relies on those before it."""
    if not isinstance(request, dict):
        yield BatchError(code="invalid_request", message="The line must hold a JSON object.")
    unknown = sorted(set(request) - _FIELDS)
    if unknown:
        yield BatchError(code="invalid_request", message=f"Unknown field: `{unknown[0][:64]}`.", param=unknown[0][:64])
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= 512:
        said = "`custom_id` must be a string of 1 to 512 characters."
        yield BatchError(code="invalid_custom_id", message=said, param="custom_id")
    if custom_id in seen:
        said = f"`custom_id` must be the line's own; line {seen[custom_id]} has the same."
        yield BatchError(code="duplicate_custom_id", message=said, param="custom_id")
    if request.get("method") != "POST":
        yield BatchError(code="invalid_method", message="`method` must be POST.", param="method")
    if request.get("url") != endpoint:
        yield BatchError(code="mismatched_url", message=f"`url` must be {endpoint}, as the batch says.", param="url")
    if not isinstance(request.get("body"), dict):
        yield BatchError(code="invalid_request", message="`body` must be a JSON object.", param="body")
