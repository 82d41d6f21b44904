"""The lines of a batch's input file: JSON objects, each a request with an id of its own."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handler.api.strict_json import read_json
from handler.api.validation import printable
from handler.errors import ServiceError
from handler.kept.batches import ENDPOINTS, BatchError

LARGEST_LINE = 1_000_000

# A file that is wrong throughout is not worth more.
MOST_ERRORS = 100

LONGEST_ID = 512

_FIELDS = {"custom_id", "method", "url", "body"}

_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A request.

    Attributes:
        index: its place among the requests of the file, from 0.
        custom_id: what the sender knows it by.
        url: the endpoint that answers it.
        body: the body for that endpoint, not yet looked at.
    """

    index: int
    custom_id: str
    url: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no request.

    Attributes:
        start: the byte of the file (or the part of it that was read) at which it begins.
        custom_id: what the sender knows it by, if that much could be read.
        error: what is wrong; its `line` is the line's number, from 1.
    """

    start: int
    custom_id: str | None
    error: BatchError


def parse_lines(data: bytes, endpoint: str) -> tuple[list[Line], list[BatchError]]:
    """Read a file in OpenAI's batch format, as `read_lines` does.

    Args:
        data: the file.
        endpoint: the `url` every request must have.

    Returns:
        The requests, and what is wrong with the file; of its errors the first `MOST_ERRORS`.
    """
    lines: list[Line] = []
    errors: list[BatchError] = []
    for line in read_lines(data, (endpoint,)):
        if isinstance(line, Line):
            lines.append(line)
        elif len(errors) < MOST_ERRORS:
            errors.append(line.error)
        else:
            break
    if not lines and not errors:
        errors.append(BatchError(code="empty_file", message="The file holds no request."))
    return lines, errors


def read_lines(data: bytes, endpoints: Collection[str]) -> Iterator[Line | BadLine]:
    """Read line after line: a byte order mark, CRLF, empty lines and a missing last newline are fine.

    Args:
        data: whole lines.
        endpoints: what may be the `url` of a request.
    """
    seen: dict[str, int] = {}
    count = 0
    for number, start, text in _numbered(data):
        if len(text) > LARGEST_LINE:
            said = f"A line may have at most {LARGEST_LINE} bytes; given: {len(text)}."
            yield BadLine(start, None, BatchError(code="line_too_long", message=said, line=number))
            continue
        try:
            request = read_json(text, "line")
        except ServiceError as error:
            torn = BatchError(code="invalid_json_line", message=error.message, param=error.param, line=number)
            yield BadLine(start, None, torn)
            continue
        fault = next(_faults(request, endpoints, seen), None)
        if fault is not None:
            custom_id = request.get("custom_id") if isinstance(request, dict) else None
            known_by = custom_id[:LONGEST_ID] if isinstance(custom_id, str) else None
            yield BadLine(start, known_by, fault.model_copy(update={"line": number}))
            continue
        seen[request["custom_id"]] = number
        yield Line(count, request["custom_id"], request["url"], request["body"])
        count += 1


def endpoint_of(data: bytes) -> str:
    """The endpoint of a file that came without one: its first request's, or the default, where that says none."""
    first = next(read_lines(data, ENDPOINTS), None)
    return first.url if isinstance(first, Line) else ENDPOINTS[0]


def _numbered(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each line that is not empty: its number, where it begins, and what it says."""
    start = len(_MARK) if data.startswith(_MARK) else 0
    number = 0
    while start < len(data):
        number += 1
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        text = data[start:end].strip()
        if text:
            yield number, start, text
        start = end + 1


def _faults(request: Any, endpoints: Collection[str], seen: Mapping[str, int]) -> Iterator[BatchError]:
    """What is wrong with a line; only the first is asked for, and each check relies on those before it."""
    if not isinstance(request, dict):
        yield BatchError(code="invalid_request", message="The line must hold a JSON object.")
    unknown = sorted(set(request) - _FIELDS)
    if unknown:
        name = printable(unknown[0])
        yield BatchError(code="invalid_request", message=f"Unknown field: `{name}`.", param=name)
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= LONGEST_ID:
        said = f"`custom_id` must be a string of 1 to {LONGEST_ID} characters."
        yield BatchError(code="invalid_custom_id", message=said, param="custom_id")
    if custom_id in seen:
        said = f"`custom_id` must be the line's own; line {seen[custom_id]} has the same."
        yield BatchError(code="duplicate_custom_id", message=said, param="custom_id")
    if request.get("method") != "POST":
        yield BatchError(code="invalid_method", message="`method` must be POST.", param="method")
    if request.get("url") not in endpoints:
        said = f"`url` must be {' or '.join(endpoints)}."
        yield BatchError(code="mismatched_url", message=said, param="url")
    if not isinstance(request.get("body"), dict):
        yield BatchError(code="invalid_request", message="`body` must be a JSON object.", param="body")
