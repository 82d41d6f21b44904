"""The queries of the runbooks ask for what the service, its gateway and Lambda write, and for nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from handler.telemetry import COMPLETION_METRICS

ROOT = Path(__file__).parents[2]

PAGE = (ROOT / "docs/runbooks.md").read_text()
QUERIES = re.findall(r"^```\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)

# The query language, as far as it is used.
COMMANDS = {"as", "by", "desc", "fields", "filter", "limit", "sort", "stats"}
FUNCTIONS = {"and", "bin", "count", "in", "like", "max", "or", "pct", "sum"}
UNITS = {"m", "h"}


def log_calls() -> Iterator[ast.Call]:
    """Every call that writes a line of the log."""
    for path in (ROOT / "handler").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "logger"
            ):
                yield node


def messages() -> set[object]:
    return {first.value for call in log_calls() for first in call.args[:1] if isinstance(first, ast.Constant)}


def fields() -> set[str]:
    """The names of everything in the function's and the gateway's lines."""
    of_calls = {keyword.arg for call in log_calls() for keyword in call.keywords if keyword.arg}
    of_the_gateway = set(re.findall(r'"(\w+)":"\$context', (ROOT / "template.yaml").read_text()))
    of_completions = {"model", "version", "choices", "finish_reasons", *COMPLETION_METRICS}
    return {"level", "message", "stages", "@timestamp", "@message", *of_calls, *of_the_gateway, *of_completions}


def test_every_message_they_look_for_is_logged() -> None:
    wanted = [text for query in QUERIES for text in re.findall(r'"([^"]+)"', query)]
    assert len(wanted) > 10
    assert set(wanted) - messages() == {"ERROR"}  # a level


def test_every_field_they_read_is_logged() -> None:
    known = fields()
    for query in QUERIES:
        bare = re.sub(r'"[^"]*"|/[^/\n]*/', "", query)
        made = set(re.findall(r" as (\w+)", bare))
        words = {word.partition(".")[0] for word in re.findall(r"@?[a-zA-Z_][\w.]*", bare)}
        assert words - COMMANDS - FUNCTIONS - UNITS - made - known == set(), query


def test_every_link_leads_to_a_runbook() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    assert links
    assert links <= headings
