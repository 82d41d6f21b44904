"""Golden HTTP events through the real entry point: the same text in the envelope of each source."""

import json

import pytest

from tests.exchanges import events_of
from tests.functional.events.golden import Handler, golden, text_of
from tests.functional.events.worker import Context

pytestmark = pytest.mark.usefixtures("mangum_loop")

HTTP = ["http-api-v2", "rest-api-v1", "function-url", "load-balancer"]


def test_every_http_source_gets_the_same_text_in_its_own_envelope(handler: Handler) -> None:
    answers = {name: handler(golden(name), Context()) for name in HTTP}

    assert len({text_of(json.loads(answer["body"])) for answer in answers.values()}) == 1
    for name, answer in answers.items():
        keys = {"statusCode", "headers", "body", "isBase64Encoded"} | (
            {"multiValueHeaders"} if "rest" in name else set()
        )
        assert set(answer) == keys
        assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)


@pytest.mark.parametrize("name", ["http-api-v2", "load-balancer"])
def test_what_cannot_stream_gets_all_events_in_one_body(handler: Handler, name: str) -> None:
    event = golden(name)
    event |= {part: golden("http-api-v2-stream")[part] for part in ("body", "isBase64Encoded")}
    answer = handler(event, Context())
    *chunks, usage, done = events_of(answer["body"])

    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
    assert answer["headers"]["content-type"] == "text/event-stream; charset=utf-8"
    assert done == "[DONE]"
    whole = json.loads(handler(golden(name), Context())["body"])
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text_of(whole)
    assert len(chunks) > 2
    assert usage["usage"] == whole["usage"]


def test_generate_text_through_the_gateway(handler: Handler) -> None:
    answer = handler(golden("http-api-v2-generate-text"), Context())

    (generated,) = json.loads(answer["body"])
    assert generated["generated_text"].startswith("Once upon a time")


def test_health_needs_no_key(handler: Handler) -> None:
    assert json.loads(handler(golden("http-api-v2-healthz"), Context())["body"]) == {"status": "ok"}


@pytest.mark.parametrize("authorization", [None, "Bearer sk-guess"])
def test_a_request_without_a_key_of_the_table_is_refused(handler: Handler, authorization: str | None) -> None:
    event = golden("http-api-v2")
    del event["headers"]["authorization"]
    if authorization:
        event["headers"]["authorization"] = authorization
    answer = handler(event, Context())

    assert answer["statusCode"] == 401
    assert json.loads(answer["body"])["error"]["code"] == "invalid_api_key"


def test_http_says_so_in_a_header(handler: Handler) -> None:
    event = golden("http-api-v2-generate-text")
    body = {"prompt": "Once upon a time", "max_length": 200, "num_return_sequences": 16, "top_k": 0, "top_p": 0.9}
    event["body"] = json.dumps(body)
    answer = handler(event, Context(milliseconds=700))

    assert (answer["statusCode"], answer["headers"]["x-cut-by"]) == (200, "deadline")


def test_no_time_at_all_is_an_error(handler: Handler) -> None:
    answer = handler(golden("http-api-v2"), Context(milliseconds=300))

    assert answer["statusCode"] == 504
    assert json.loads(answer["body"])["error"]["code"] == "deadline_exceeded"
