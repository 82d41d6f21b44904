"""Bodies that are wrong or mean harm: each gets its error, quickly, in little memory, whichever way it comes."""

import json
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from handler.api.json_body import JsonRoute
from handler.api.strict_json import MOST_VALUES
from tests.services import make_settings, running_app
from tests.ways_in import WAYS_IN, WayIn

JSON = "application/json"
LIMIT = make_settings().max_body_bytes


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    with running_app() as app:
        yield app


def items(item: bytes, count: int = LIMIT // 10) -> bytes:
    return b'{"prompt": [' + b",".join([item] * count) + b"]}"


TOO_MANY = f"The body may hold at most {MOST_VALUES} values; given: more."
NEEDS_JSON = "The body must be a JSON object sent with `Content-Type: application/json`; given: "
KINDS = "`prompt`: input should be a string, a list of strings, a list of token ids or a list of such lists, and not "

WRONG = [
    (b"", JSON, 400, "The body must be a JSON object; given: nothing."),
    (b"   ", JSON, 400, "The body is not valid JSON: Expecting value, at character 3."),
    (b'{"prompt": "a', JSON, 400, "The body is not valid JSON: Unterminated string starting at, at character 11."),
    (b'{"prompt": "a"} b', JSON, 400, "The body is not valid JSON: Extra data, at character 16."),
    (b"[1]", JSON, 400, f"{NEEDS_JSON}a list of 1 items."),
    (b"null", JSON, 400, f"{NEEDS_JSON}null."),
    (b'"a"', JSON, 400, f"{NEEDS_JSON}a string of 1 characters."),
    (b'{"prompt": "a"}', "", 400, f"{NEEDS_JSON}none."),
    (b'{"prompt": "a"}', "text/plain", 400, f"{NEEDS_JSON}`text/plain`."),
    (b"prompt=a", "application/x-www-form-urlencoded", 400, f"{NEEDS_JSON}`application/x-www-form-urlencoded`."),
    (b'{"prompt": "a"}', "a" * 5000, 400, f"{NEEDS_JSON}`{'a' * 64}...`."),
    (b'\xef\xbb\xbf{"prompt": "a"}', JSON, 400, "The body must be JSON alone; given: a byte order mark before it."),
    ('{"prompt": "a"}'.encode("utf-16"), JSON, 400, "The body must be UTF-8; given: the byte 0xff at position 0."),
    (b'{"prompt": "\xc3\x28"}', JSON, 400, "The body must be UTF-8; given: the byte 0xc3 at position 12."),
    # CESU-8 and half a pair, which UTF-8 has not.
    (b'{"prompt": "\xed\xa0\x80"}', JSON, 400, "The body must be UTF-8; given: the byte 0xed at position 12."),
    (b'{"prompt": "a\\ud800"}', JSON, 400, "`prompt` must be valid Unicode; given: the lone surrogate U+D800 at po"),
    (b'{"stop": "\\udfff", "prompt": "a"}', JSON, 400, "`stop`: input should be a string or a list of at most 4 st"),
    (b'{"\\ud800": 1}', JSON, 400, "The name of a field is not valid Unicode."),
    (b'{"prompt": "a\x00"}', JSON, 400, "The body is not valid JSON: Invalid control character at, at character 13."),
    (b'{"temperature": NaN}', JSON, 400, "NaN is no number in JSON."),
    (b'{"temperature": -Infinity}', JSON, 400, "-Infinity is no number in JSON."),
    (b'{"temperature": 1e400}', JSON, 400, "`temperature`: input should be a finite number; given: Infinity."),
    (
        b'{"seed": 1' + b"0" * 300 + b"}",
        JSON,
        400,
        "`seed`: input should be less than 9223372036854775808; given: 1000",
    ),
    (b'{"seed": 1' + b"0" * 5000 + b"}", JSON, 400, "A number may have at most 400 digits; given: 5001."),
    (b'{"top_p": 0.' + b"1" * 900_000 + b"}", JSON, 400, "A number may have at most 400 digits; given: 900"),
    (b'{"n": 1, "prompt": "a", "n": 2}', JSON, 400, "`n` is given more than once."),
    (b'{"logit_bias": {"5": 1, "5": 2}}', JSON, 400, "`5` is given more than once."),
    (b"[" * 100_000, JSON, 400, "The body is nested too deeply."),
    (b'{"prompt":' * 90_000, JSON, 400, "The body is nested too deeply."),
    (items(b"[[[[[]]]]]", 10_000), JSON, 400, KINDS),
    (items(b"1.5", MOST_VALUES), JSON, 400, KINDS),
    (items(b"{}", MOST_VALUES), JSON, 400, KINDS),
    (items(b"1"), JSON, 413, TOO_MANY),
    (items(b"[]"), JSON, 413, TOO_MANY),
    (items(b'""'), JSON, 413, TOO_MANY),
    (
        b"{" + b",".join(b'"%d": 1' % i for i in range(5000)) + b"}",
        JSON,
        413,
        "An object may have at most 2048 fields; given: 5000.",
    ),
    (b" " * (LIMIT + 1), JSON, 413, f"The body may have at most {LIMIT} bytes; given: at least {LIMIT + 1}."),
]


@pytest.mark.parametrize("send", WAYS_IN)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong[-1][:60])
def test_a_wrong_body_is_told_why(app: FastAPI, send: WayIn, wrong: tuple[bytes, str, int, str]) -> None:
    body, content_type, status, message = wrong
    started = time.process_time()
    answered, answer = send(app, "/v1/completions", body, content_type)

    assert time.process_time() - started < 1  # of the processor's time, most of it the test's own
    assert (answered, set(answer["error"])) == (status, {"message", "type", "param", "code"})
    assert answer["error"]["message"].startswith(message)


@pytest.mark.parametrize("send", WAYS_IN)
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"prompt": "a\\u0000", "max_tokens": 2}', JSON),
        (b'{"prompt": "a", "max_tokens": 2}', "APPLICATION/JSON; charset=utf-8"),
        (b'{"prompt": "a", "max_tokens": 2}', "application/vnd.api+json"),
        (b' \n{"prompt": "\xf0\x9f\x99\x82", "max_tokens": 2, "seed": -9223372036854775808}\t', JSON),
    ],
)
def test_what_only_looks_wrong_is_answered(app: FastAPI, send: WayIn, body: bytes, content_type: str) -> None:
    status, answer = send(app, "/v1/completions", body, content_type)
    assert (status, answer["object"]) == (200, "text_completion")


def test_commas_of_a_text_separate_nothing(app: FastAPI) -> None:
    body = json.dumps({"text": ',"' * 30_000 + "," * 100_000 + "\\"}).encode()
    status, answer = WAYS_IN[0](app, "/tokenize", body, JSON)
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")  # it was read


@pytest.mark.parametrize(
    "body", [items(b"1"), items(b"{}", MOST_VALUES), b"[" * LIMIT, b'{"prompt":' * (LIMIT // 10)], ids=range(4)
)
def test_a_body_takes_a_few_times_its_size(app: FastAPI, body: bytes) -> None:
    tracemalloc.start()
    try:
        WAYS_IN[0](app, "/v1/completions", body, JSON)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * LIMIT


def test_every_body_is_read_this_way(app: FastAPI) -> None:
    routes = [route.original_route for route in iter_route_contexts(app.routes)]
    with_body = [route for route in routes if isinstance(route, APIRoute) and route.body_field is not None]
    assert len(with_body) >= 10
    assert {type(route) for route in with_body} == {JsonRoute}
