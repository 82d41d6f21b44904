"""Chromium for tests: Playwright's own where it was downloaded, else Debian's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

DEBIAN = Path("/usr/bin/chromium")

# It runs as whoever runs the tests, in containers too, and calls nobody.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoBrowserError(Exception):
    """There is no Chromium on this machine."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser.

    Raises:
        NoBrowserError: there is none; the message says how to get one.
    """
    with sync_playwright() as playwright:
        found = [path for path in (Path(playwright.chromium.executable_path), DEBIAN) if path.exists()]
        if not found:
            raise NoBrowserError(
                "No Chromium: run `.venv/bin/playwright install chromium`, or `apt-get install chromium` on Debian."
            )
        browser = playwright.chromium.launch(executable_path=found[0], args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
