"""The page to play on: one response that needs no other, and a policy that allows nothing else."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient

from handler.api.completion_schemas import CompletionBody
from handler.api.playground import FOLDER
from tests.services import running_app


class Page(HTMLParser):
    """What is in the page: its elements' attributes, and the texts of its styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"style": [], "script": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.get(self.elements[-1][0] if self.elements else "", []).append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]

    def texts_of(self, tag: str) -> list[str]:
        return [text for text in self.texts[tag] if text.strip()]


@pytest.fixture
def client() -> Iterator[TestClient]:
    with running_app() as app:
        yield TestClient(app)


@pytest.fixture
def page(client: TestClient) -> Page:
    return Page(client.get("/").text)


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(client: TestClient, page: Page) -> None:
    response = client.get("/")
    scripts = " ".join(map(hash_of, page.texts_of("script")))
    styles = " ".join(map(hash_of, page.texts_of("style")))
    headers = dict(response.headers)
    assert (len(headers.pop("x-request-id")), len(headers.pop("etag"))) == (32, 34)
    assert headers == {
        "cache-control": "no-cache",
        "content-length": str(len(response.content)),
        "content-security-policy": f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'",
        "content-type": "text/html; charset=utf-8",
        "cross-origin-opener-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


@pytest.mark.parametrize("form", ["{}", "W/{}", '"another", {}'])
def test_a_browser_that_has_the_page_is_told_so(client: TestClient, form: str) -> None:
    first = client.get("/")
    again = client.get("/", headers={"If-None-Match": form.format(first.headers["etag"])})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert client.get("/", headers={"If-None-Match": '"another"'}).status_code == 200


def test_the_page_refers_to_nothing_but_the_documentation(page: Page) -> None:
    assert page.values("src") == []
    assert [address for address in page.values("href") if not address.startswith("data:")] == ["docs"]
    names = {name for _, attributes in page.elements for name in attributes}
    assert {name for name in names if name.startswith("on")} | ({"style"} & names) == set()


def test_every_file_is_in_the_page_once_and_behind_what_it_imports(page: Page) -> None:
    [script] = page.texts_of("script")
    style = "".join(page.texts_of("style"))
    sources = {path.name: path.read_text() for path in FOLDER.iterdir() if path.name != "page.html"}
    places = {}
    for name, source in sources.items():
        text = style if name.endswith(".css") else script
        comment = source.splitlines()[0]
        assert text.count(comment) == 1, name
        places[name] = text.index(comment)
    for name, source in sources.items():
        for names, other in re.findall(r'^import \{ (.+) \} from "\./(.+)";$', source, re.MULTILINE):
            assert places[other] < places[name]
            for each in names.split(", "):
                assert re.search(rf"^export (const|class|(async )?function\*?) {each}\b", sources[other], re.MULTILINE)
    assert re.findall(r"^(?:import|export)\b.*", script, re.MULTILINE) == []


def test_nothing_in_a_file_ends_its_element(page: Page) -> None:
    assert [tag for tag, _ in page.elements].count("script") == 1
    for path in FOLDER.iterdir():
        assert path.name == "page.html" or not re.search(r"</s(cript|tyle)|<!--", path.read_text())


def test_what_the_page_names_is_there(page: Page) -> None:
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    named = {each for name in ("for", "form", "aria-labelledby", "aria-describedby") for each in page.values(name)}
    [script] = page.texts_of("script")
    assert named | set(re.findall(r'byId\("([^"]+)"\)', script)) <= set(ids)


def test_every_field_is_one_of_the_api(page: Page) -> None:
    names = set(page.values("name")) - {"viewport"}
    # Of the others, some make no sense on a page, and some it fills in itself.
    assert CompletionBody.model_fields.keys() - names == {
        "best_of", "echo", "logit_bias", "logprobs", "model", "n", "stream", "stream_options", "suffix", "user",
    }  # fmt: skip
    assert names <= CompletionBody.model_fields.keys()


def test_every_control_has_a_label_or_words(page: Page) -> None:
    labels = set(page.values("for"))
    controls = [attributes["id"] for tag, attributes in page.elements if tag in ("input", "textarea")]
    assert len(controls) == 12
    assert set(controls) == labels
