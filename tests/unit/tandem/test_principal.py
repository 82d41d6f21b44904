"""The header by which the GPU service knows who is asking: the front's, for this request, now, and nothing else."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import jwt
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from handler.allowance import UNLIMITED
from handler.api.key_limits import KeyLimits, TokensOfTheDay
from handler.api.keys import Key
from handler.errors import AuthenticationError
from handler.tandem.principal import HEADER, Forwarded, sign, tandem_authorizer
from tests.exchanges import events_of
from tests.fake_engine import FakeEngine
from tests.services import VOCABULARY, make_settings, running_app

SECRET = "s3cret-" * 5
PATH = "/v1/completions"
BODY = json.dumps({"prompt": [65], "max_tokens": 50, "temperature": 0}).encode()
NO_KEY = "A request signed with AWS credentials is required, verified by the API."
NOT_THE_FRONTS = f"`{HEADER}` is not from our front, or not from now: "

FORWARDED = Forwarded(
    principal="key:ada",
    request_id="tale-1",
    path=PATH,
    body_sha256=sha256(BODY).hexdigest(),
    whole_seconds=20.0,
    stream_seconds=None,
    key=None,
)


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    engine = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.005)
    with running_app(engine, make_settings(auth_mode="iam", tandem_key=SECRET)) as app:
        yield app


def ask(app: FastAPI, token: str | None, body: bytes = BODY, path: str = PATH) -> Any:
    headers = {"content-type": "application/json", "x-request-id": "tale-1"}
    named = {} if token is None else {HEADER: token}
    return TestClient(app).post(path, content=body, headers={**headers, **named})


def test_what_the_front_forwards_is_answered(app: FastAPI) -> None:
    answer = ask(app, sign(FORWARDED, SECRET))
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 50


def unsigned() -> str:
    claims = jwt.decode(sign(FORWARDED, SECRET), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none")


def signed(**changes: Any) -> str:
    """With some claims changed, but the right secret."""
    claims = jwt.decode(sign(FORWARDED, SECRET), options={"verify_signature": False})
    return jwt.encode(claims | changes, SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: None, NO_KEY),
        (lambda: "", NOT_THE_FRONTS + "Not enough segments."),
        (lambda: "key:ada", NOT_THE_FRONTS + "Not enough segments."),
        (lambda: sign(FORWARDED, "another-secret" * 3), NOT_THE_FRONTS + "Signature verification failed."),
        (unsigned, NOT_THE_FRONTS + "The specified alg value is not allowed."),
        (lambda: sign(FORWARDED, SECRET, time.time() - 70), NOT_THE_FRONTS + "Signature has expired."),
        (lambda: sign(FORWARDED, SECRET, time.time() + 30), NOT_THE_FRONTS + "The token is not yet valid (iat)."),
        (lambda: signed(aud="another-service"), NOT_THE_FRONTS + "Audience doesn't match."),
        (lambda: sign(replace(FORWARDED, path="/v1/score"), SECRET), f"`{HEADER}` was made for another request."),
        (lambda: sign(replace(FORWARDED, request_id="tale-2"), SECRET), f"`{HEADER}` was made for another request."),
        (lambda: sign(replace(FORWARDED, body_sha256="0" * 64), SECRET), f"`{HEADER}` was made for another body."),
    ],
)
def test_everybody_else_is_refused(app: FastAPI, made: Callable[[], str | None], message: str) -> None:
    answer = ask(app, made())
    error = {"message": message, "type": "authentication_error", "param": None, "code": "invalid_api_key"}
    assert (answer.status_code, answer.json()) == (401, {"error": error})


def test_what_was_overheard_is_good_for_no_other_request(app: FastAPI) -> None:
    token = sign(FORWARDED, SECRET)
    assert ask(app, token, b'{"prompt": "another"}').status_code == 401
    assert ask(app, token, path="/v1/score").status_code == 401
    assert TestClient(app).get("/v1/models", headers={HEADER: token}).status_code == 401
    assert TestClient(app).post(PATH, content=BODY, headers={HEADER: token}).status_code == 401  # another id


def test_a_front_does_not_believe_the_header() -> None:
    with running_app(settings=make_settings(auth_mode="iam", tandem_key=SECRET, gpu_url="http://127.0.0.1:9")) as app:
        assert ask(app, sign(FORWARDED, SECRET)).json()["error"]["message"] == NO_KEY


def test_a_whole_answer_and_a_stream_have_deadlines_of_their_own(app: FastAPI) -> None:
    body = json.loads(BODY)
    for streamed, whole, stream, cut_by in (
        (False, 0.1, None, "deadline"),
        (False, 20.0, 0.1, None),
        (True, 0.1, None, None),
        (True, 20.0, 0.1, "deadline"),
    ):
        data = json.dumps(body | {"stream": streamed}).encode()
        digest = sha256(data).hexdigest()
        forwarded = replace(FORWARDED, body_sha256=digest, whole_seconds=whole, stream_seconds=stream)
        answer = ask(app, sign(forwarded, SECRET), data)
        last = events_of(answer.text)[-2] if streamed else answer.json()
        assert last["choices"][0]["cut_by"] == cut_by


LIMITED = Key("ada", "f" * 64, requests_per_minute=1, tokens_per_day=1000)


class NotAskedLimits(KeyLimits):
    """Counts no request: the front has."""

    def count_request(self, key: Key) -> None:
        raise AssertionError(key)


def authorized(key: Key | None) -> dict[str, Any]:
    def otherwise(_: Any) -> str:
        raise AuthenticationError(NO_KEY)

    authorize = tandem_authorizer(SECRET, NotAskedLimits("keys"), otherwise)
    token = sign(replace(FORWARDED, key=key), SECRET).encode()
    state: dict[str, Any] = {"request_id": "tale-1"}
    scope = {"method": "POST", "path": PATH, "headers": [(HEADER.encode(), token)], "state": state}
    assert authorize(scope) == "key:ada"
    return state


def test_tokens_are_counted_where_they_are_generated_and_requests_where_they_arrive() -> None:
    allowance = authorized(LIMITED)["allowance"]
    assert isinstance(allowance, TokensOfTheDay)
    assert authorized(None).get("allowance", UNLIMITED) is UNLIMITED
