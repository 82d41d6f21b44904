"""What the documents say of the code is what the code says."""

import re
from pathlib import Path

import pytest

from lifecycle.readme import DOCUMENTS, README, rendered

MAKEFILE = README.parent / "Makefile"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_generated_parts_are_fresh(document: Path) -> None:
    text = document.read_text()
    assert rendered(text) == text, "run `make docs`"


def test_every_make_target_it_names_exists() -> None:
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", README.read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE.read_text(), re.MULTILINE))

    assert {first or second for first, second in named} <= targets


def test_every_event_it_names_exists() -> None:
    for event in re.findall(r"tests/events/[\w-]+\.json", README.read_text()):
        assert (README.parent / event).is_file()
