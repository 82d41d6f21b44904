"""The events of tests/events, as AWS sends them, and what the function makes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

EVENTS = Path(__file__).parents[2] / "events"

Handler: TypeAlias = Callable[[Any, Any], Any]


def golden(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def text_of(answer: dict[str, Any]) -> str:
    assert answer["object"] == "text_completion"
    text: str = answer["choices"][0]["text"]
    return text
