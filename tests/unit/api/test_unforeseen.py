"""What a bug is answered with, and that its words reach no log."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from handler.api.unforeseen import BrokenOffError, UnforeseenErrorMiddleware
from tests.exchanges import error
from tests.fake_engine import FakeEngine
from tests.services import VOCABULARY, running_app


def test_a_bug_is_answered_in_the_same_shape_and_logged_without_its_words(log: Any) -> None:
    engine = FakeEngine(vocabulary_size=VOCABULARY)
    engine.fail_with = ArithmeticError("while reading 'the sea'")
    with running_app(engine) as broken:
        # Nothing is raised for whoever runs the application, who would log all of it.
        response = TestClient(broken).post("/v1/completions", json={"prompt": "the sea"})

    message = "Something went wrong here; it has been logged."
    assert (response.status_code, response.json()) == (500, error(message, None, kind="server_error"))
    assert "x-request-id" in response.headers
    assert json.loads(log.getvalue().splitlines()[-1])["error"] == "ArithmeticError"
    assert "the sea" not in log.getvalue()


def test_a_response_that_a_bug_breaks_off_is_not_whole_and_says_nothing(log: Any) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ArithmeticError("while reading 'the sea'")

    client = TestClient(UnforeseenErrorMiddleware(broken))
    with pytest.raises(BrokenOffError) as raised:
        client.get("/")
    assert (str(raised.value), raised.value.__suppress_context__) == ("", True)
    assert json.loads(log.getvalue())["error"] == "ArithmeticError"
    assert "the sea" not in log.getvalue()
