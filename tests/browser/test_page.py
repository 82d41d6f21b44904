"""The page itself: what it looks like where, what it can be used with, and what it never does."""

import re
from typing import Any

import pytest
from playwright.sync_api import Error, Locator, Page, expect

from tests.browser.conftest import Visit
from tests.browser.models import model_saying, serving
from tests.browser.test_writing import STORY, write

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>&amp;"


def contrast(element: Locator) -> float:
    """How much an element's text stands out from the page behind it (WCAG 2.2, contrast ratio)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    style = "element => [getComputedStyle(element).color, getComputedStyle(document.body).backgroundColor]"
    dark, light = sorted(map(luminance, element.evaluate(style)))
    return (light + 0.05) / (dark + 0.05)


def overflow(page: Page) -> int:
    """How many pixels of the page lie beyond its right edge."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_are_those_the_system_asks_for_and_can_be_read(visit: Visit, scheme: Any) -> None:
    with serving(model_saying(STORY)) as address:
        page = visit(address, color_scheme=scheme)
        write(page, temperature="3")
        expect(page.locator("#problem")).not_to_be_empty()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(247, 245, 241)", "dark": "rgb(23, 22, 20)"}[scheme]
        for element in ("h1", "#model", "nav a", "#problem", ".legend", ".field small"):
            assert contrast(page.locator(element).first) >= 4.5, element


def test_a_narrow_screen_needs_no_sideways_scrolling(visit: Visit) -> None:
    long = "m" * 300
    with serving(model_saying(long)) as address:
        page = visit(address, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
        assert overflow(page) == 0
        expect(page.get_by_label("temperature")).to_be_hidden()
        page.get_by_text("Parameters", exact=True).tap()
        write(page, max_tokens="400")
        expect(page.locator("#status")).to_contain_text("tokens")
        assert page.locator("#text").text_content() == long
        page.get_by_role("option").nth(3).tap()
        expect(page.locator("#alternatives .chosen")).to_be_in_viewport()
        page.get_by_role("button", name="Why this token?").tap()
        expect(page.locator("#verdict")).to_contain_text("had a probability of")
        page.get_by_text("API key").tap()
        expect(page.get_by_label("Key", exact=True)).to_be_in_viewport(ratio=1)
        assert overflow(page) == 0


def test_the_keyboard_is_enough(visit: Visit) -> None:
    with serving(model_saying(STORY)) as address:
        page = visit(address)

        def tab_to(element: Locator) -> None:
            for _ in range(40):
                page.keyboard.press("Tab")
                if element.evaluate("element => element === document.activeElement"):
                    return
            raise AssertionError(f"Tab never comes to {element}")

        tab_to(page.get_by_label("Prompt"))
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.type("A")
        tab_to(page.get_by_label("temperature"))
        page.keyboard.type("0")
        page.keyboard.press("Enter")
        expect(page.locator("#text")).to_have_text(STORY.strip())
        tab_to(page.get_by_role("option").first)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("option").nth(2)).to_be_focused()
        expect(page.get_by_role("option", selected=True)).to_have_count(1)
        page.keyboard.press("End")
        expect(page.get_by_role("option").last).to_be_focused()
        tab_to(page.get_by_role("button", name="Why this token?"))
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Why this token?")).to_be_focused()


def test_the_focus_follows_from_writing_to_stopping_and_back(visit: Visit) -> None:
    with serving(model_saying(STORY)) as address:
        page = visit(address)
        page.get_by_role("button", name="Write").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("tokens")
        expect(page.get_by_role("button", name="Write")).to_be_focused()


def test_showing_the_page_takes_one_request_and_two_for_the_models_facts(visit: Visit) -> None:
    with serving(model_saying(STORY)) as address:
        page = visit(address)
        expect(page.locator("#model")).to_contain_text("tiny")
        loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [each for each in loaded if not each.startswith("data:")] == [
            f"{address}v1/models",
            f"{address}v1/models/tiny",
        ]


def test_what_the_model_says_is_shown_and_never_run(visit: Visit) -> None:
    with serving(model_saying(HOSTILE, after=HOSTILE)) as address:
        page = visit(address)
        write(page, HOSTILE)
        expect(page.locator("#status")).to_contain_text("ended by itself")
        assert page.locator(".page").first.text_content() == HOSTILE * 2
        page.get_by_role("option").first.click()
        page.get_by_role("button", name="Why this token?").click()
        expect(page.locator("#verdict")).to_contain_text("<")
        assert page.locator("main img, main script").count() == 0


def test_the_policy_holds_against_what_the_page_might_be_made_to_do(visit: Visit, broken_rules: list[str]) -> None:
    with serving(model_saying(STORY)) as address:
        page = visit(address)
        with pytest.raises(Error, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<b>bold</b>'")
        page.evaluate("fetch('http://127.0.0.1:9/').catch(() => {})")
        page.evaluate("document.body.setAttribute('style', 'color: red')")
        expect(page.locator("#model")).to_contain_text("tiny")
        objections = [each for each in broken_rules if "Content Security Policy" in each]
        assert len(objections) >= 2, broken_rules
        broken_rules.clear()
