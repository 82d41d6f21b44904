"""What may stand between the playground and the application, and what the page makes of it."""

import re

import pytest
from playwright.sync_api import expect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.browser.conftest import Visit
from tests.browser.models import model_saying, serving
from tests.browser.test_writing import STORY, write

pytestmark = pytest.mark.browser


class Stage:
    """What a stage of API Gateway does: the function sees the path without the stage's name."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(self._name + "/"), scope["path"]
            scope = {**scope, "path": scope["path"].removeprefix(self._name)}
        await self._app(scope, receive, send)


class Buffer:
    """What an entry that cannot stream does: the body comes in one piece, when it is whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""

        async def keep(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.body":
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                message = {"type": "http.response.body", "body": body}
            await send(message)

        await self._app(scope, receive, keep)


class Crumbs:
    """Sends every body byte by byte, which cuts events and characters anywhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def crumble(message: Message) -> None:
            body = message.get("body", b"")
            for byte in body[:-1]:
                await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
            await send({**message, "body": body[-1:]} if body else message)

        await self._app(scope, receive, crumble)


class Break:
    """Ends a stream before its last event, as a connection does that is given up on the way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_end(message: Message) -> None:
            done = message.get("body") == b"data: [DONE]\n\n"
            await send({**message, "body": b""} if done else message)

        await self._app(scope, receive, without_end)


class Refuse:
    """Answers in place of the application, as a gateway does."""

    def __init__(self, app: ASGIApp, status: int, body: str, headers: dict[str, str]) -> None:
        self._app = app
        self._answer = Response(body, status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = scope["type"] == "http" and scope["method"] == "POST"
        await (self._answer if refused else self._app)(scope, receive, send)


def test_the_page_works_under_a_stages_path(visit: Visit) -> None:
    with serving(model_saying(STORY), (Stage, {"name": "/prod"})) as address:
        page = visit(f"{address}prod/")
        write(page)
        expect(page.locator("#text")).to_have_text(STORY.strip())
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.locator("#copied")).to_have_text("Copied")
        assert f"'{address}prod/v1/completions'" in page.evaluate("navigator.clipboard.readText()")
        page.get_by_role("link", name="API reference").click()
        expect(page).to_have_url(f"{address}prod/docs")


def test_where_nothing_streams_the_same_text_comes_at_once(visit: Visit) -> None:
    with serving(model_saying(STORY), (Buffer, {})) as address:
        page = visit(address)
        write(page)
        expect(page.locator("#text")).to_have_text(STORY.strip())
        expect(page.locator("#status")).to_have_text(re.compile(r"^\d+ tokens at once after 0\.\d\d s · ended by"))


def test_it_makes_no_difference_where_a_stream_is_cut_into_pieces(visit: Visit) -> None:
    text = "naïve 日本語 🙂."
    with serving(model_saying(text), (Crumbs, {})) as address:
        page = visit(address)
        write(page)
        expect(page.locator("#status")).to_contain_text("ended by")
        assert page.locator("#text").text_content() == text


def test_an_answer_that_breaks_off_is_told_and_the_text_stays(visit: Visit) -> None:
    with serving(model_saying(STORY), (Break, {})) as address:
        page = visit(address)
        write(page)
        expect(page.get_by_role("alert")).to_have_text("The answer broke off before its end.")
        assert page.locator("#text").text_content() == STORY


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (429, '{"message": "Too Many Requests"}', {}, "Too Many Requests"),
        (503, '{"error": {"message": "Loading."}}', {"Retry-After": "2"}, "Loading. Try again in 2 s."),
        (502, "<html>Bad Gateway</html>", {}, "The service answered 502 Bad Gateway."),
        (500, "null", {}, "The service answered 500 Internal Server Error."),
        (504, "{}", {}, "The service answered 504 Gateway Timeout."),
    ],
)
def test_a_gateways_refusal_is_told_in_its_words(
    visit: Visit, status: int, body: str, headers: dict[str, str], message: str
) -> None:
    refusal = (Refuse, {"status": status, "body": body, "headers": headers})
    with serving(model_saying(STORY), refusal) as address:
        page = visit(address)
        write(page)
        expect(page.get_by_role("alert")).to_have_text(message)
        expect(page.get_by_role("button", name="Write")).to_be_enabled()
