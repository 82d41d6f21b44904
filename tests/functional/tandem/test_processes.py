"""The tandem as it is deployed, in processes of their own with the real model: a function and a container."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import boto3
import httpx
import pytest
from mypy_boto3_dynamodb import DynamoDBClient
from rich.console import Console

from handler.api.key_limits import DAY, MINUTE
from handler.tandem.principal import HEADER, Forwarded, sign
from lifecycle.keys import KeyRegistry
from lifecycle.local.cloud import LOCAL_KEY, TABLE, embedded_cloud
from lifecycle.local.invoke import STREAMING, emulated_function, invoke
from lifecycle.local.models import publish_source
from tests.exchanges import events_of
from tests.functional.container.running import running_container
from tests.functional.tandem.pair import SECRET, by_gpu
from tests.runtimes import split, url_event
from tests.serving import wait_until

PATH = "/v1/completions"
BODY = {"prompt": "Once upon a time", "max_tokens": 12, "seed": 7}


@dataclass(frozen=True)
class Tandem:
    """Both processes' addresses, and the table of keys.

    Attributes:
        front: the function, under Lambda's emulator.
        service: the GPU service; its model is the front's, and so is its engine.
        keys: what both count in.
    """

    front: str
    service: str
    keys: DynamoDBClient


@pytest.fixture(scope="module")
def tandem() -> Iterator[Tandem]:
    with embedded_cloud() as cloud:
        model = publish_source("demo", cloud.store, Console(quiet=True))
        both = {**cloud.environment(model), "AUTH_MODE": "api-key", "TANDEM_KEY": SECRET}
        with (
            running_container("handler.container", **both) as service,
            emulated_function({**both, "GPU_URL": service.address}, STREAMING) as front,
        ):
            tandem = Tandem(front, service.address, boto3.client("dynamodb"))
            wait_until(lambda: by_gpu(through_front(tandem)[0]))
            yield tandem


def through_front(tandem: Tandem, key: str = LOCAL_KEY, **fields: Any) -> tuple[dict[str, str], str]:
    """The headers and the body that a request is answered with."""
    event = url_event(PATH, BODY | fields, authorization=f"Bearer {key}")
    prelude, body = split(invoke(tandem.front, json.dumps(event).encode()))
    assert prelude["statusCode"] == 200
    return prelude["headers"], body.decode()


def direct(tandem: Tandem, key: str = LOCAL_KEY, **headers: str) -> httpx.Response:
    return httpx.post(f"{tandem.service}{PATH}", json=BODY, headers={"Authorization": f"Bearer {key}", **headers})


def test_the_front_answers_what_the_service_answers(tandem: Tandem) -> None:
    headers, forwarded = through_front(tandem)
    answer = direct(tandem)
    assert (by_gpu(headers), by_gpu(answer.headers)) == (True, False)
    different = {"id": "", "created": 0}
    assert json.loads(forwarded) | different == answer.json() | different
    assert headers["x-model-version"] == answer.headers["x-model-version"]


def test_a_stream_says_the_same(tandem: Tandem) -> None:
    headers, body = through_front(tandem, stream=True)
    *chunks, done = events_of(body)
    assert (by_gpu(headers), done) == (True, "[DONE]")
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == direct(tandem).json()["choices"][0]["text"]


def test_the_service_called_directly_wants_a_key_or_the_fronts_word(tandem: Tandem) -> None:
    forwarded = Forwarded("key:ada", "tale-1", PATH, "", whole_seconds=20, stream_seconds=None, key=None)
    forged = sign(forwarded, "another-secret" * 3)
    of_another = sign(replace(forwarded, body_sha256=sha256(b"another").hexdigest()), SECRET)
    for headers in ({}, {HEADER: forged}, {HEADER: of_another}, {HEADER: "key:ada"}):
        assert direct(tandem, "sk-guess", **{"x-request-id": "tale-1", **headers}).status_code == 401


def test_requests_and_tokens_of_a_key_are_counted_once(tandem: Tandem) -> None:
    key, _ = KeyRegistry(TABLE, tandem.keys).create("ada", requests_per_minute=1000, tokens_per_day=1000)
    answers = [through_front(tandem, key) for _ in range(3)]
    assert all(by_gpu(headers) for headers, _ in answers)
    items = [item for item in tandem.keys.scan(TableName=TABLE)["Items"] if "used" in item]
    used = {
        seconds: sum(int(item["used"]["N"]) for item in items if f"#{seconds}#" in item["key_hash"]["S"])
        for seconds in (MINUTE, DAY)
    }
    assert used == {MINUTE: 3, DAY: sum(json.loads(body)["usage"]["total_tokens"] for _, body in answers)}
