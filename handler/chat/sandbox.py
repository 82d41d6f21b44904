"""Renders chat templates: the program of a process of its own, which may come to grief without taking ours along.

A template comes with a model, and is a program: it may loop for ever, or ask for more memory than there is. jinja2's
sandbox keeps it from everything but time and memory; those are bounded here by the system (setrlimit(2)), because
nothing in Python can interrupt one long operation. The parent adds a clock.

For each line of JSON, `{"template", "variables"}`, it writes one: `{"text"}` or `{"error"}`.
"""

import json
import resource
import sys
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES = 512 * 1024 * 1024

# A conversation fits a context of a few thousand tokens; whatever is longer cannot be answered anyway.
MOST_CHARACTERS = 1_000_000


def _raise_exception(message: str) -> NoReturn:
    """What templates call to refuse a conversation."""
    raise TemplateError(message)


def _environment() -> ImmutableSandboxedEnvironment:
    """An environment as transformers has it (`utils/chat_template_utils.py`), for templates are written for that."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _render(environment: ImmutableSandboxedEnvironment, template: str, variables: dict[str, Any]) -> dict[str, str]:
    try:
        text = environment.from_string(template).render(**variables)
    except MemoryError:
        return {"error": "it needs more memory than it may have"}
    except Exception as error:  # noqa: BLE001 - a template can raise anything, and its words are all there is to tell
        return {"error": str(error) or type(error).__name__}
    if len(text) > MOST_CHARACTERS:
        return {"error": f"it makes more than {MOST_CHARACTERS:,} characters"}
    return {"text": text}


def main() -> None:
    """Render until the parent has no more to render."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    environment = _environment()
    for line in sys.stdin:
        request = json.loads(line)
        answer = _render(environment, request["template"], request["variables"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
