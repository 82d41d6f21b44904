"""Opens the playground in Chromium, and sees to it that no page breaks the rules: whatever a test does, every request
goes to the page's own address, no script fails, and the policy has nothing to object to.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import NoBrowserError, chromium
from tests.serving import demo_server

Visit: TypeAlias = Callable[..., Page]

# How long a failing test takes; machines that test are busy.
PATIENCE = 20_000
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    try:
        with chromium() as browser:
            yield browser
    except NoBrowserError as error:
        pytest.exit(str(error), returncode=1)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page of a server that checks API keys, with the demo model."""
    with demo_server() as address:
        yield f"{address}/"


@pytest.fixture
def broken_rules() -> list[str]:
    """What the pages of this test did that they must not."""
    return []


@pytest.fixture
def visit(browser: Browser, broken_rules: list[str]) -> Iterator[Visit]:
    """Opens an address; further arguments are those of a browser context, such as its viewport."""
    contexts = []

    def open_page(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: broken_rules.append(str(error)))
        page.on("request", lambda request: _check_origin(request.url, url, broken_rules))
        page.on("console", lambda message: _check_console(message.text, broken_rules))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert broken_rules == []


def _check_origin(requested: str, url: str, broken_rules: list[str]) -> None:
    if urlsplit(requested)[:2] != urlsplit(url)[:2] and not requested.startswith("data:"):
        broken_rules.append(f"requested {requested}")


def _check_console(text: str, broken_rules: list[str]) -> None:
    # The browser notes refusals by itself; what the page makes of them is for the tests to see.
    if not text.startswith("Failed to load resource"):
        broken_rules.append(text)
