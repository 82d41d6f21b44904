"""Every request has an id, in its response and in the log."""

import io
import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.log_lines import logged
from tests.services import running_app

BODY = {"prompt": "the sea", "max_tokens": 2}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with running_app() as app:
        yield TestClient(app, raise_server_exceptions=False)


def test_a_request_keeps_its_own_id(client: TestClient, log: io.StringIO) -> None:
    response = client.post("/v1/completions", json=BODY, headers={"x-request-id": "mine-1.2_3"})
    assert response.headers["x-request-id"] == "mine-1.2_3"
    (line,) = logged(log, "completion")
    assert line["request_id"] == "mine-1.2_3"


@pytest.mark.parametrize("given", [None, "", "a b", "{}", "x" * 129])
def test_others_get_a_new_one_each(client: TestClient, given: str | None) -> None:
    headers = {} if given is None else {"x-request-id": given}
    ids = {client.post("/v1/completions", json=BODY, headers=headers).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/nowhere", 404), ("/v1/completions", 405)])
def test_whatever_the_answer(client: TestClient, path: str, status: int) -> None:
    response = client.get(path)
    assert (response.status_code, len(response.headers["x-request-id"])) == (status, 32)


def test_a_stream_has_one_too(client: TestClient) -> None:
    response = client.post("/v1/completions", json={**BODY, "stream": True}, headers={"x-request-id": "s"})
    assert response.headers["x-request-id"] == "s"
