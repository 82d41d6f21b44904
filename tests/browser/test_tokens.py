"""What the playground shows of each token: how surprising it was, what else was probable, and why it came."""

import math
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from lifecycle.local.cloud import LOCAL_KEY
from tests.browser.conftest import Visit
from tests.browser.models import TOKENIZER, model_saying, serving, tokens_of
from tests.browser.test_access import use_key
from tests.browser.test_writing import STORY, write

pytestmark = pytest.mark.browser


def tint(token: Locator) -> float:
    return float(token.evaluate("token => token.style.getPropertyValue('--tint')"))


def rows(alternatives: Locator) -> list[tuple[str, str]]:
    """The tokens and probabilities of a list of alternatives."""
    items = alternatives.locator("li")
    codes, figures = (items.locator(part).all_text_contents() for part in ("code", "span:not(.bar)"))
    return list(zip(codes, figures, strict=True))


def test_pointing_at_a_token_shows_what_else_was_probable(visit: Visit) -> None:
    first, second = (token.replace(" ", "·") for token in tokens_of(STORY)[:2])
    with serving(model_saying(STORY)) as address:
        page = visit(address)
        write(page)
        expect(page.locator("#status")).to_contain_text("ended by")
        card = page.locator("#alternatives")
        page.get_by_role("option").nth(1).hover()
        expect(card.locator("h3")).to_have_text(f"{second} 33.2 %")
        shown = rows(card)
        assert shown[0] == (second, "33.2 %")
        assert len(shown) == 5
        assert {share for _, share in shown[1:]} == {"0.22 %"}  # the fake engine's others are equally probable
        expect(card.locator(".chosen code")).to_have_text(second)
        # One that was pressed comes back when the pointer leaves.
        page.get_by_role("option").nth(0).click()
        page.get_by_role("option").nth(1).hover()
        page.get_by_role("heading", name="GPT-2, serverless").hover()
        expect(card.locator("h3")).to_have_text(f"{first} 33.2 %")


def test_the_less_probable_a_token_the_deeper_its_tint(visit: Visit, address: str) -> None:
    page = visit(address.removesuffix("v1"))
    use_key(page, LOCAL_KEY)
    write(page, "Once upon a time", temperature="1.2", seed="3")
    expect(page.locator("#status")).to_contain_text("tokens/s")
    tokens = page.get_by_role("option").all()
    labels = [str(token.get_attribute("aria-label")) for token in tokens]
    shares = [float(label.rpartition(", ")[2].removeprefix("< ").removesuffix(" %")) / 100 for label in labels]
    assert len(tokens) > 20
    # The whole tint is for one in a thousand; the page rounds shares to two digits, which is 0.05 of their logarithms.
    expected = [min(math.log(1 / share) / math.log(1000), 1) for share in shares]
    assert list(map(tint, tokens)) == pytest.approx(expected, abs=0.01)


def test_characters_of_several_tokens_are_shown_whole(visit: Visit) -> None:
    text = "naïve 日本語 🙂."
    with serving(model_saying(text)) as address:
        page = visit(address)
        write(page)
        expect(page.locator("#status")).to_contain_text("ended by")
        shown = page.get_by_role("option").all_text_contents()
        assert "".join(shown) == text
        assert "🙂" in shown
        page.get_by_role("option").nth(shown.index("🙂")).click()
        count = len(TOKENIZER.encode("🙂"))
        assert count > 1
        expect(page.locator("#alternatives h3")).to_have_count(count)
        page.get_by_role("button", name="Why this token?").click()
        expect(page.locator("#evidence .explained")).to_have_count(count)


def explained(visit: Visit, address: str, *, prompt: str, **texts: str) -> Any:
    """The API's own explanation."""
    page = visit(address)
    ask = "async body => (await (await fetch('v1/explain', {method: 'POST', body: JSON.stringify(body), headers: "
    return page.evaluate(ask + "{'Content-Type': 'application/json'}})).json())", {"prompt": prompt, **texts})


def test_the_next_token_is_explained_as_the_api_explains_it(visit: Visit) -> None:
    prompt = "She said the sea"
    with serving(model_saying(STORY, after=prompt)) as address:
        answer = explained(visit, address, prompt=prompt)
        [token] = answer["continuation"]
        page = visit(address)
        page.get_by_label("Prompt").fill(prompt)
        page.get_by_role("button", name="Explain the next token").click()
        expect(page.locator("#verdict")).to_contain_text(f"{token['entropy']:.2f} nats")
        evidence = page.locator("#evidence").get_by_role("option")
        assert evidence.all_text_contents() == [each["text"] for each in (*answer["prompt"], token)]
        largest = max(map(abs, token["contributions"]))
        for i, contribution in enumerate(token["contributions"]):
            assert tint(evidence.nth(i)) == pytest.approx(abs(contribution) / max(largest, 0.5), abs=1e-3)
            evidence.nth(i).hover()
            figure = f"{contribution:+.2f} nats".replace("-", "\N{MINUS SIGN}")
            expect(page.locator("#contribution")).to_contain_text(figure)
        against = sum(contribution < -math.log(1.05) for contribution in token["contributions"])
        expect(page.locator("#evidence .against")).to_have_count(against)
        assert rows(page.locator("#candidates"))[0][0] == token["text"]


def test_more_than_the_api_explains_is_refused_in_its_words(visit: Visit) -> None:
    with serving(model_saying(STORY)) as address:
        page = visit(address)
        page.get_by_label("Prompt").fill("x " * 100)
        page.get_by_role("button", name="Explain the next token").click()
        count = len(TOKENIZER.encode("x " * 100))
        expect(page.get_by_role("alert")).to_have_text(
            f"`prompt` and `continuation` together may have at most 128 tokens here; given: {count} and 0."
        )
        page.get_by_label("Prompt").fill("")
        page.get_by_role("button", name="Explain the next token").click()
        expect(page.locator("#evidence")).to_contain_text("<|endoftext|>")
