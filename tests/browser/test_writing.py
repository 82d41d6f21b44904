"""Writing in the playground: text as it is made, stopping, and what is said when something goes wrong."""

import io
import re
import threading

import pytest
from playwright.sync_api import Page, expect

from handler.errors import EngineError
from tests.browser.conftest import Visit
from tests.browser.models import model_saying, serving, tokens_of
from tests.serving import PATIENCE, wait_until

pytestmark = pytest.mark.browser

STORY = "She said that the sea was the sea, and he heard her say so. "


def write(page: Page, prompt: str = "A", **parameters: str) -> None:
    """Fill the form in and press the button."""
    page.get_by_label("Prompt").fill(prompt)
    for name, value in {"temperature": "0", **parameters}.items():
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Write").click()


def test_text_grows_as_it_is_made(visit: Visit) -> None:
    permits = threading.Semaphore(1)
    tokens = tokens_of(STORY)
    with serving(model_saying(STORY, permits=permits)) as address:
        page = visit(address)
        write(page)
        for count in range(1, 5):
            expect(page.locator("#text")).to_have_text("".join(tokens[:count]).strip())
            expect(page.get_by_role("option")).to_have_count(count)
            permits.release()
        permits.release(len(tokens))
        expect(page.locator("#status")).to_contain_text("tokens/s · ended by itself or a stop string")
        assert page.locator("#asked").text_content() == "A"
        assert page.locator("#text").text_content() == STORY
        assert page.locator("#spoken").text_content() == STORY
        assert page.get_by_role("option").all_text_contents() == tokens


def test_stopping_stops_the_generation_within_a_step(visit: Visit, log: io.StringIO) -> None:
    permits = threading.Semaphore(3)
    engine = model_saying(STORY, permits=permits)
    with serving(engine) as address:
        page = visit(address)
        write(page)
        expect(page.get_by_role("option")).to_have_count(3)
        steps = len(engine.steps)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#status")).to_have_text(re.compile(r"^3 tokens .* · stopped$"))
        wait_until(lambda: '"message":"completion"' in log.getvalue())  # the server has given it up
        permits.release(50)
        assert engine.idle.wait(PATIENCE)
        assert len(engine.steps) <= steps + 1  # the one that was under way
        assert page.locator("#text").text_content() == "".join(tokens_of(STORY)[:3])
        expect(page.locator("#problem")).to_be_empty()


def test_an_error_on_the_way_is_told_and_the_text_stays(visit: Visit) -> None:
    permits = threading.Semaphore(2)
    engine = model_saying(STORY, permits=permits)
    with serving(engine) as address:
        page = visit(address)
        write(page)
        expect(page.get_by_role("option")).to_have_count(2)
        engine.fail_with = EngineError("The logits are not finite.")
        permits.release()
        expect(page.get_by_role("alert")).to_have_text("The logits are not finite.")
        assert page.locator("#text").text_content() == "".join(tokens_of(STORY)[:2])
        expect(page.get_by_role("button", name="Write")).to_be_enabled()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"presence_penalty": "3"}, "`presence_penalty`: input should be less than or equal to 2; given: 3."),
        ({"top_p": "a lot"}, "`top_p`: input should be a valid number; given: a string of 5 characters."),
        ({"seed": "9007199254740993"}, "`seed`: input should be a valid integer; given: a string of 16 characters."),
        (
            {"stop": "1\n2\n3\n4\n5"},
            (
                "`stop`: input should be a string or a list of at most 4 strings, none of them empty; "
                "given: a list of 5 items."
            ),
        ),
    ],
)
def test_a_bad_parameter_is_told_in_the_words_of_the_api(
    visit: Visit, parameters: dict[str, str], message: str
) -> None:
    with serving(model_saying(STORY)) as address:
        page = visit(address)
        write(page, **parameters)
        expect(page.get_by_role("alert")).to_have_text(message)
        write(page, **dict.fromkeys(parameters, ""))
        expect(page.locator("#text")).to_have_text(STORY.strip())
        expect(page.get_by_role("alert")).to_be_empty()


def test_a_server_that_went_away_is_told(visit: Visit) -> None:
    with serving(model_saying(STORY)) as address:
        page = visit(address)
        expect(page.locator("#model")).to_contain_text("tiny")
    write(page)
    expect(page.get_by_role("alert")).to_have_text("Failed to fetch")


def test_a_stop_string_ends_the_text_and_a_line_break_can_be_one(visit: Visit) -> None:
    with serving(model_saying("the sea\nand he")) as address:
        page = visit(address)
        write(page, stop="\\n")
        expect(page.locator("#status")).to_contain_text("ended by itself or a stop string")
        assert page.locator("#text").text_content() == "the sea"
