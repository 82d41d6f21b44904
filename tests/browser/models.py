"""A model that says what a test wants it to say, behind a real server."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.fake_engine import FakeEngine
from tests.models import tiny_tokenizer
from tests.services import END_OF_TEXT, VOCABULARY, make_settings, running_app
from tests.serving import served

TOKENIZER = tiny_tokenizer(VOCABULARY)


def tokens_of(text: str) -> list[str]:
    """The texts of a text's tokens."""
    return [TOKENIZER.decode([token]) for token in TOKENIZER.encode(text)]


def model_saying(text: str, *, after: str = "A", permits: threading.Semaphore | None = None) -> FakeEngine:
    """An engine that finds `text` most probable after one prompt, and then the end."""
    said, length = TOKENIZER.encode(text), len(TOKENIZER.encode(after))

    def rule(tokens: Sequence[int], _: int) -> int:
        place = len(tokens) - length
        return said[place] if 0 <= place < len(said) else END_OF_TEXT

    return FakeEngine(vocabulary_size=VOCABULARY, context_length=1024, rule=rule, permits=permits)


@contextmanager
def serving(engine: FakeEngine, *middleware: tuple[Any, dict[str, Any]]) -> Iterator[str]:
    """The application over an engine, perhaps with something in front of it; yields the address of the page."""
    with running_app(engine, make_settings(max_tokens=500)) as app:
        for each, options in middleware:
            app.add_middleware(each, **options)
        with served(app) as client:
            yield str(client.base_url).removesuffix("v1/")
