"""Keys, and requests taken along, against the real server with the demo model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from lifecycle.local.cloud import LOCAL_KEY
from tests.browser.conftest import Visit
from tests.browser.test_writing import write

pytestmark = pytest.mark.browser

# All that means something to a shell or to Python.
HOSTILE = (
    """It's "quoted" \\n $(touch owned) `touch owned` ${HOME} !! 'a' \\' \\" %s {x} # \t\n日本語 🙂 ' ; touch owned"""
)


@pytest.fixture
def page(visit: Visit, address: str) -> Page:
    """The playground of a server that checks keys, with its key in use."""
    page = visit(address)
    use_key(page, LOCAL_KEY)
    return page


def use_key(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use").click()


def test_who_has_no_key_or_a_wrong_one_is_asked_for_it(visit: Visit, address: str) -> None:
    page = visit(address)
    expect(page.get_by_role("alert")).to_have_text("An API key is required: send it as `Authorization: Bearer KEY`.")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    use_key(page, "sk-wrong")
    expect(page.get_by_role("alert")).to_have_text("This API key is not known, or it was revoked.")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    use_key(page, LOCAL_KEY)
    expect(page.locator("#model")).to_contain_text("demo · v")
    expect(page.get_by_role("alert")).to_be_empty()
    write(page, "Once upon a time", max_tokens="5")
    expect(page.locator("#model")).to_contain_text(re.compile(r"· (native|reference)"))


def test_the_key_stays_in_the_tab(page: Page) -> None:
    expect(page.locator("#model")).to_contain_text("demo")
    page.reload()
    expect(page.locator("#model")).to_contain_text("demo")
    kept = page.evaluate("[{...sessionStorage}, {...localStorage}, document.cookie]")
    assert kept == [{"gpt2-api-key": LOCAL_KEY}, {}, ""]
    page.get_by_text("API key", exact=True).click()
    use_key(page, "")
    assert page.evaluate("({...sessionStorage})") == {}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_the_copied_command_gives_the_text_on_the_page(page: Page, shell: str, tmp_path: Path) -> None:
    text = written(page)
    command = copied(page, "Copy as curl")
    said = run([shell, "-c", command], tmp_path)
    assert json.loads(said)["choices"][0]["text"] == text


def test_the_copied_program_gives_the_text_on_the_page(page: Page, tmp_path: Path) -> None:
    text = written(page)
    program = copied(page, "Copy as openai")
    assert run([sys.executable, "-c", program], tmp_path) == f"{text}\n"


def written(page: Page) -> str:
    """What the model writes when every parameter is filled in."""
    parameters = {
        "max_tokens": "30",
        "temperature": "0.9",
        "top_p": "0.9",
        "top_k": "200",
        "min_p": "0.001",
        "repetition_penalty": "1.1",
        "presence_penalty": "0.1",
        "frequency_penalty": "0.1",
        "seed": "7",
        "stop": "it's \\n\n“$(touch owned)",
    }
    write(page, HOSTILE, **parameters)
    expect(page.locator("#status")).to_contain_text("tokens")
    return str(page.locator("#text").text_content())


def copied(page: Page, button: str) -> str:
    page.get_by_role("button", name=button).click()
    expect(page.locator("#copied")).to_have_text("Copied")
    snippet = str(page.evaluate("navigator.clipboard.readText()"))
    assert LOCAL_KEY not in snippet
    return snippet


def run(command: list[str], folder: Path) -> str:
    """What a command says; it finds nobody's settings, and leaves nothing behind."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "GPT2_API_KEY": LOCAL_KEY}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert list(folder.iterdir()) == []
    return done.stdout
