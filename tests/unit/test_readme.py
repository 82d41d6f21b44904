"""What the README says of the code is what the code says."""

import re

from lifecycle.readme import README, rendered

MAKEFILE = README.parent / "Makefile"


def test_generated_parts_are_fresh() -> None:
    text = README.read_text()
    assert rendered(text) == text, "run `make docs`"


def test_every_make_target_it_names_exists() -> None:
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", README.read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE.read_text(), re.MULTILINE))

    assert {first or second for first, second in named} <= targets


def test_every_event_it_names_exists() -> None:
    for event in re.findall(r"tests/events/[\w-]+\.json", README.read_text()):
        assert (README.parent / event).is_file()
