"""Input files as they come: what is read, and what is said of what is not."""

import json
from typing import Any

import pytest

from handler.kept.batches import ENDPOINTS, BatchError
from handler.work.answering import ROUTES
from handler.work.lines import LARGEST_LINE, MOST_ERRORS, BadLine, Line, endpoint_of, parse_lines, read_lines

URL = "/v1/completions"


def line(custom_id: str = "a", **changes: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": {"prompt": "She"}} | changes)


BODY = {"prompt": "She"}
GOOD = [Line(0, "a", URL, BODY), Line(1, "b", URL, BODY)]


@pytest.mark.parametrize(
    "data",
    [
        f"{line('a')}\n{line('b')}\n",
        f"{line('a')}\n{line('b')}",
        f"{line('a')}\r\n{line('b')}\r\n",
        f"\ufeff{line('a')}\n{line('b')}\n",
        f"\n\n{line('a')}\n   \n\r\n{line('b')}\n\n",
    ],
    ids=["plain", "no last newline", "CRLF", "byte order mark", "empty lines"],
)
def test_files_of_every_kind_hold_the_same_requests(data: str) -> None:
    assert parse_lines(data.encode(), URL) == (GOOD, [])


def test_line_ends_inside_a_text_are_none() -> None:
    text = "a\u2028b\u0085c"
    first = json.dumps(json.loads(line("a", body={"prompt": text})), ensure_ascii=False)
    lines, errors = parse_lines(f"{first}\n{line('b')}".encode(), URL)
    assert (lines, errors) == ([Line(0, "a", URL, {"prompt": text}), Line(1, "b", URL, BODY)], [])


@pytest.mark.parametrize(
    ("bad", "code", "param", "message"),
    [
        (
            '{"custom_id": "x", "meth',
            "invalid_json_line",
            None,
            "The line is not valid JSON: Unterminated string starting at, at character 19.",
        ),
        ('{"url": 1, "url": 2}', "invalid_json_line", "url", "`url` is given more than once."),
        ("[" * 100_000, "invalid_json_line", None, "The line is nested too deeply."),
        ("[]", "invalid_request", None, "The line must hold a JSON object."),
        (line("x", colour=1), "invalid_request", "colour", "Unknown field: `colour`."),
        (line("x", **{"\ud800": 1}), "invalid_request", r"\ud800", r"Unknown field: `\ud800`."),
        (line(""), "invalid_custom_id", "custom_id", "`custom_id` must be a string of 1 to 512 characters."),
        (line("x" * 513), "invalid_custom_id", "custom_id", "`custom_id` must be a string of 1 to 512 characters."),
        (line("a"), "duplicate_custom_id", "custom_id", "`custom_id` must be the line's own; line 1 has the same."),
        (line("x", method="GET"), "invalid_method", "method", "`method` must be POST."),
        (line("x", url="/v1/embeddings"), "mismatched_url", "url", f"`url` must be {URL}."),
        (line("x", body="She"), "invalid_request", "body", "`body` must be a JSON object."),
    ],
)
def test_a_line_that_is_no_request_is_named(bad: str, code: str, param: str | None, message: str) -> None:
    lines, errors = parse_lines(f"{line('a')}\n\n{bad}\n{line('b')}\n".encode(), URL)
    assert (lines, errors) == (GOOD, [BatchError(code=code, message=message, param=param, line=3)])


def test_bytes_that_are_no_text_are_named() -> None:
    said = "The line must be UTF-8; given: the byte 0xff at position 0."
    assert parse_lines(b"\xff\xfe\n", URL)[1] == [BatchError(code="invalid_json_line", message=said, line=1)]


def test_a_line_of_a_hundred_megabytes_is_refused() -> None:
    huge = b'{"custom_id": "' + b"x" * 100_000_000 + b'"}'
    _, errors = parse_lines(line().encode() + b"\n" + huge, URL)
    said = f"A line may have at most {LARGEST_LINE} bytes; given: {len(huge)}."
    assert errors == [BatchError(code="line_too_long", message=said, line=2)]


@pytest.mark.parametrize("data", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data: bytes) -> None:
    assert parse_lines(data, URL) == ([], [BatchError(code="empty_file", message="The file holds no request.")])


def test_lines_may_ask_what_there_is_a_route_for() -> None:
    assert tuple(ROUTES) == ENDPOINTS


@pytest.mark.parametrize(
    ("data", "endpoint"),
    [
        (line(url="/v1/chat/completions"), "/v1/chat/completions"),
        (f"\n{line()}\n{line('b', url='/v1/chat/completions')}", URL),
        ("torn", URL),
        ("", URL),
    ],
)
def test_a_file_that_comes_without_an_endpoint_has_that_of_its_first_line(data: str, endpoint: str) -> None:
    assert endpoint_of(data.encode()) == endpoint


def test_a_bad_line_is_found_again_by_its_byte_and_id() -> None:
    data = f"\ufeff{line('a')}\r\n\r\n{line('b', method='GET')}\n"
    [good, bad] = read_lines(data.encode(), ENDPOINTS)
    assert good == Line(0, "a", URL, BODY)
    assert isinstance(bad, BadLine)
    assert data.encode()[bad.start :] == f"{line('b', method='GET')}\n".encode()
    assert (bad.custom_id, bad.error.line) == ("b", 3)


def test_errors_are_listed_up_to_a_point() -> None:
    assert len(parse_lines(b"bad\n" * (MOST_ERRORS + 50), URL)[1]) == MOST_ERRORS
