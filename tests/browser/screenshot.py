"""`make screenshot`: the README's picture of the playground, taken of the page as it is now, with the demo model."""

import io

from PIL import Image  # comes with matplotlib
from playwright.sync_api import expect

from lifecycle.readme import ROOT
from tests.browser.chromium import chromium
from tests.serving import serving

PICTURE = ROOT / "docs" / "playground.png"


def main() -> None:
    """Write a text, walk to a token, ask why it came, and take the picture."""
    with serving("demo", ROOT) as (address, _), chromium() as browser:
        page = browser.new_page(viewport={"width": 1120, "height": 920})
        page.goto(address)
        for name, value in {"max_tokens": "60", "temperature": "0.7", "seed": "11"}.items():
            page.get_by_label(name, exact=True).fill(value)
        page.get_by_role("button", name="Write").click()
        expect(page.locator("#status")).to_contain_text("tokens/s")
        page.get_by_role("option").nth(51).click()
        page.get_by_role("button", name="Why this token?").click()
        expect(page.locator("#verdict")).not_to_be_empty()
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    picture.quantize(128).save(PICTURE, optimize=True)  # the colours it has, in a third of the bytes


if __name__ == "__main__":
    main()
