"""Every path needs authorization unless it is on the list; whoever checks, doubt means no."""

from collections.abc import Iterator
from typing import Any

import anyio
import boto3
import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from moto import mock_aws

from handler.api.authorization import OPEN_PATHS, authorizer_for, is_open
from handler.api.keys import KeysTable, hash_key
from handler.errors import AuthenticationError, KeysUnavailableError
from tests.services import make_settings, running_app

KEY = "sk-test"
REVOKED = "sk-revoked"


@pytest.fixture
def keys_table() -> Iterator[None]:
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(
            TableName="keys",
            AttributeDefinitions=[{"AttributeName": "key_hash", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "key_hash", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for key, more in ((KEY, {}), (REVOKED, {"revoked_at": {"S": "2026-11-23T12:00:00+00:00"}})):
            item = {"key_hash": {"S": hash_key(key)}, "key_id": {"S": key[3:]}, **more}
            client.put_item(TableName="keys", Item=item)
        yield


async def get(app: FastAPI, path: str, *, method: str = "GET", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.request(method, path, headers=headers)


def ask(app: FastAPI, path: str, *, method: str = "GET", **headers: str) -> httpx.Response:
    return anyio.run(lambda: get(app, path, method=method, **headers))


def refusal(message: str, code: str = "invalid_api_key", kind: str = "authentication_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def test_the_open_paths_are_these() -> None:
    assert {"/", "/docs", "/openapi.json", "/healthz", "/readyz"} == OPEN_PATHS


@pytest.mark.parametrize("mode", ["api-key", "jwt", "iam"])
def test_every_route_but_the_open_ones_refuses_a_stranger(mode: str, keys_table: None) -> None:
    with running_app(settings=make_settings(auth_mode=mode, keys_table="keys")) as app:
        routes = [
            (method, str(route.path)) for route in iter_route_contexts(app.routes) for method in route.methods or ()
        ]
        statuses = {(method, path): ask(app, path, method=method).status_code for method, path in routes}
    assert len(routes) >= 10
    assert {status for (_, path), status in statuses.items() if not is_open(path)} == {401}
    assert {status for (_, path), status in statuses.items() if is_open(path)} == {200}


def test_a_path_that_does_not_exist_is_not_told_to_a_stranger(keys_table: None) -> None:
    with running_app(settings=make_settings(auth_mode="api-key", keys_table="keys")) as app:
        assert ask(app, "/v2/secret").status_code == 401
        assert ask(app, "/v2/secret", Authorization=f"Bearer {KEY}").status_code == 404


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "An API key is required: send it as `Authorization: Bearer KEY`."),
        (KEY, "An API key is required: send it as `Authorization: Bearer KEY`."),
        ("Basic c2stdGVzdA==", "An API key is required: send it as `Authorization: Bearer KEY`."),
        ("Bearer ", "An API key is required: send it as `Authorization: Bearer KEY`."),
        ("Bearer sk-guess", "This API key is not known, or it was revoked."),
        (f"Bearer {REVOKED}", "This API key is not known, or it was revoked."),
    ],
)
def test_a_wrong_key_is_refused(header: str | None, message: str, keys_table: None) -> None:
    with running_app(settings=make_settings(auth_mode="api-key", keys_table="keys")) as app:
        headers = {} if header is None else {"Authorization": header}
        response = ask(app, "/v1/models", **headers)
    assert (response.status_code, response.json()) == (401, refusal(message))
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_key_of_the_table_is_let_in(scheme: str, keys_table: None) -> None:
    with running_app(settings=make_settings(auth_mode="api-key", keys_table="keys")) as app:
        assert ask(app, "/v1/models", Authorization=f"{scheme} {KEY}").status_code == 200


def test_nobody_is_let_in_when_the_table_cannot_be_read(keys_table: None) -> None:
    with running_app(settings=make_settings(auth_mode="api-key", keys_table="absent")) as app:
        response = ask(app, "/v1/models", Authorization=f"Bearer {KEY}")
    message = "The keys table 'absent' did not answer, so no key can be checked."
    assert (response.status_code, response.json()) == (503, refusal(message, "keys_unavailable", "server_error"))
    assert response.headers["retry-after"] == "1"


def test_a_table_out_of_reach_is_given_up_on_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
    with pytest.raises(KeysUnavailableError):
        KeysTable("keys").find(KEY)


def test_keys_are_stored_as_their_sha256() -> None:
    assert hash_key("sk-test") == "f3abf2a6cc4f00987743db5f544ba345b4899ae31f326d8ee9c4816de153c9e0"


GATEWAY = {
    "jwt": {"jwt": {"claims": {"sub": "ada"}}},
    "iam": {"iam": {"userArn": "arn:aws:iam::123456789012:user/ada"}},
}


@pytest.mark.parametrize("mode", GATEWAY)
@pytest.mark.parametrize("authorizer", [*GATEWAY.values(), {"jwt": {"claims": {}}}, {"iam": {}}, {}, None, "ada"])
def test_the_gateways_verdict_counts_and_nothing_else(mode: str, authorizer: Any) -> None:
    authorize = authorizer_for(make_settings(auth_mode=mode))
    scope = {"headers": [], "aws.event": {"requestContext": {"authorizer": authorizer}}}

    if authorizer == GATEWAY[mode]:
        assert authorize(scope) == {"jwt": "jwt:ada", "iam": "iam:arn:aws:iam::123456789012:user/ada"}[mode]
    else:
        with pytest.raises(AuthenticationError):
            authorize(scope)


@pytest.mark.parametrize(
    ("identity", "allowed"),
    [
        ({"sourceIp": "192.0.2.10", "userArn": "arn:aws:iam::123456789012:user/ada"}, True),
        ({"sourceIp": "192.0.2.10", "userArn": None}, False),
        ({"sourceIp": "192.0.2.10"}, False),
        (None, False),
    ],
)
def test_a_rest_api_tells_of_its_callers_elsewhere(identity: Any, allowed: bool) -> None:
    authorize = authorizer_for(make_settings(auth_mode="iam"))
    scope = {"aws.event": {"resource": "/{proxy+}", "requestContext": {"identity": identity}}}
    if allowed:
        assert authorize(scope) == "iam:arn:aws:iam::123456789012:user/ada"
    else:
        with pytest.raises(AuthenticationError):
            authorize(scope)


def test_without_a_gateway_there_is_no_verdict() -> None:
    with pytest.raises(AuthenticationError):
        authorizer_for(make_settings(auth_mode="iam"))({"headers": []})
