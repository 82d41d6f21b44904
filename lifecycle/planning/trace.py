"""Traffic read from a file: a description of it, or a trace of the requests that came."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from handler.api.validation import StrictBody, describe, parse_body
from handler.errors import InvalidRequestError
from lifecycle.checkpoint import read_json
from lifecycle.planning.traffic import HOUR, HOURS, MOST_TOKENS, Description, Request, Traffic

_MOST_DAYS = 366

# A number of so many digits can still be told to be too large.
_MOST_DIGITS = 19


def read_traffic(path: Path, seed: int = 0) -> Traffic:
    """Read a description (`*.json`) or a trace.

    A trace has a line a request: `*.jsonl` with `time` (seconds, or a date and time), `prompt_tokens` and
    `output_tokens`, or `*.csv` as CloudWatch Logs Insights exports
    `fields @timestamp, prompt_tokens, completion_tokens | filter message = "completion"`.

    Raises:
        InvalidRequestError: a field is wrong or missing; the message names line, field and bound.
        CorruptModelError: a description is no JSON object.
    """
    if path.suffix == ".json":
        return parse_body(Description, read_json(path)).draw(seed)
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            if path.suffix == ".jsonl":
                return _trace([_entry(number, _object(number, line)) for number, line in enumerate(lines, 1)])
            if path.suffix == ".csv":
                return _trace([_entry(number, row) for number, row in enumerate(_insights(csv.DictReader(lines)), 2)])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequestError(f"traffic: {path.name} cannot be read: {error}", param="traffic") from error
    raise InvalidRequestError(f"traffic: must be a .json, .jsonl or .csv file, got {path.name!r}", param="traffic")


class _Entry(StrictBody):
    """A line of a trace."""

    time: float | str
    prompt_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    output_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)]


def _entry(number: int, fields: Mapping[str, Any]) -> Request:
    try:
        entry = parse_body(_Entry, fields)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"line {number}: {error.message}", param=error.param) from error
    return Request(_seconds(number, entry.time), entry.prompt_tokens, entry.output_tokens)


def _object(number: int, line: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:  # its own count of lines is that within this one
        raise InvalidRequestError(f"line {number}: not JSON: {error.msg}", param="traffic") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"line {number}: not JSON: {error}", param="traffic") from error
    if not isinstance(value, dict):
        raise InvalidRequestError(f"line {number}: must be a JSON object; given: {describe(value)}", param="traffic")
    return value


def _insights(rows: "csv.DictReader[str]") -> Iterator[Mapping[str, Any]]:
    """The rows of the export under the names of a trace, their numbers as numbers."""
    named = {"time": "@timestamp", "prompt_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
    if missing := set(named.values()) - set(rows.fieldnames or ()):
        raise InvalidRequestError(
            f"traffic: the .csv must have the columns {', '.join(named.values())};"
            f" missing: {', '.join(sorted(missing))}",
            param="traffic",
        )
    for row in rows:
        given = {name: row[column] for name, column in named.items()}
        yield {
            name: int(value) if name != "time" and value and value.isdecimal() and len(value) <= _MOST_DIGITS else value
            for name, value in given.items()
        }


def _seconds(number: int, time: float | str) -> float:
    if isinstance(time, float):
        return time
    try:
        moment = datetime.fromisoformat(time)
    except ValueError as error:
        raise InvalidRequestError(
            f"line {number}: `time` must be seconds or a date and time as of ISO 8601; given: {describe(time)}",
            param="time",
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _trace(requests: Iterable[Request]) -> Traffic:
    """Requests in the order of their times, counted from the first."""
    ordered = sorted(requests)
    if not ordered or (seconds := ordered[-1].at - ordered[0].at) <= 0:
        raise InvalidRequestError(
            f"traffic: a trace must hold requests of different times; given: {len(ordered)}, of one time",
            param="traffic",
        )
    if seconds > _MOST_DAYS * HOURS * HOUR:
        raise InvalidRequestError(
            f"traffic: a trace may span {_MOST_DAYS} days at most; given: {seconds:g} seconds", param="traffic"
        )
    begin = ordered[0].at
    shifted = tuple(request._replace(at=request.at - begin) for request in ordered)
    parts = math.ceil(seconds / HOUR)  # of one length, an hour at most
    counts = [0] * parts
    for request in shifted:
        counts[min(int(request.at / seconds * parts), parts - 1)] += 1
    return Traffic(shifted, seconds, tuple(count / (seconds / parts) for count in counts))
