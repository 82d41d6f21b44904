"""`make docs`: what documents mirror of code and measurements, written from them; a test holds them to it."""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from handler.container.metrics import Metrics
from handler.container.settings import ContainerSettings
from handler.kept.multipart import MOST_PARTS, SMALLEST_PART
from handler.settings import Settings
from handler.tandem import rules
from handler.tandem.exchange import NEXT_EVENT_SECONDS
from handler.tandem.rules import Belief, Sign
from handler.tandem.upstream import CONNECT_SECONDS
from handler.telemetry import SERVICE
from handler.work.bulk import limits
from handler.work.lines import LARGEST_LINE
from lifecycle.bulk_estimate import Job, estimate
from lifecycle.cli import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "docs" / "bulk.md", ROOT / "docs" / "tandem.md")
RESULTS = ROOT / "bench" / "results"

PLAN: Final = "lifecycle plan docs/traffic.json --model gpt2-xl --goal 5 --gpu-tokens-per-second 6400"


def settings_table() -> str:
    """Every variable of the environment, its default and its meaning."""
    return _variables(Settings.model_fields)


def container_settings_table() -> str:
    """Those that the container has beside them."""
    fields = ContainerSettings.model_fields
    return _variables({name: field for name, field in fields.items() if name not in Settings.model_fields})


def container_metrics_table() -> str:
    """What the container shows Prometheus."""
    metrics = Metrics()
    metrics.watch(list, int)
    rows = [
        [f"`{family.name}{'_total' * (family.type == 'counter')}`", family.type, f"{family.documentation}."]
        for family in metrics.registry.collect()
        if family.name.startswith(SERVICE)
    ]
    return _table(["metric", "kind", "meaning"], rows)


def _variables(fields: Mapping[str, FieldInfo]) -> str:
    rows = [
        [
            f"`{name.upper()}`",
            "" if field.is_required() or field.default == "" else f"`{field.default}`",
            str(field.description),
        ]
        for name, field in fields.items()
    ]
    return _table(["variable", "default", "meaning"], rows)


def engine_table() -> str:
    """What `make bench-engine` measured with the best instruction set of its machine, subject by subject."""
    lines = [line for line in _results("engine") if line["setting"].get("isa") == "native"]
    columns: dict[str, Callable[[dict[str, Any]], bool]] = {
        "batch 1": lambda line: line["figure"] == "decode" and line["setting"]["batch"] == 1,
        "batch 8": lambda line: line["figure"] == "decode" and line["setting"]["batch"] == 8,
        "prefill of 512": lambda line: line["figure"] == "prefill",
    }
    rows = []
    for subject in dict.fromkeys(line["subject"] for line in lines):
        own = [line for line in lines if line["subject"] == subject]
        medians = [next((line["median"] for line in own if belongs(line)), None) for belongs in columns.values()]
        rows.append([f"`{subject}`", *("" if value is None else f"{value:,.0f}" for value in medians)])
    return (
        _table(["tokens a second", *columns], rows)
        + f"\nMedians of {lines[0]['runs']} rounds on {lines[0]['machine']}.\n"
    )


def coldstart_table() -> str:
    """What `make bench-coldstart` measured from the start of a process to its first token."""
    lines = [line for line in _results("coldstart") if line["figure"] == "first_token" and "cache" in line["setting"]]
    values = {(line["subject"], line["setting"]["store"], line["setting"]["cache"]): line["median"] for line in lines}
    rows = [
        [f"`{subject}`", store, *(f"{values[subject, store, cache]:.2f}" for cache in ("warm", "dropped"))]
        for subject, store in dict.fromkeys((subject, store) for subject, store, _ in values)
    ]
    header = ["seconds to the first token", "model from", "page cache warm", "page cache dropped"]
    return _table(header, rows) + f"\nMedians of {lines[0]['runs']} starts on {lines[0]['machine']}.\n"


def coldstart_goals() -> str:
    """What a start must reach, and whether it did when `make bench-coldstart` was last run."""
    rows = []
    for line in _results("coldstart"):
        if line["figure"] == "goal":
            kind = "at most" if "at most" in line["setting"] else "at least"
            bound, reached = (
                f"{value:,.3g} {line['unit']}".strip() for value in (line["setting"][kind], line["median"])
            )
            verdict = "met" if line["setting"]["met"] else "**missed**"
            rows.append([line["setting"]["goal"], f"{kind} {bound}", reached, verdict])
    return _table(["goal", "bound", "reached", ""], rows)


def sizes_table() -> str:
    """What `make bench-sizes` measured, model by model."""
    lines = _results("sizes")
    values = {(line["subject"], line["setting"]["weights"], line["figure"]): line["median"] for line in lines}
    figures = {
        "decode": "decode, tok/s",
        "prefill": "prefill, tok/s",
        "weights": "weights, MB",
        "resident": "memory, MB",
    }
    rows = [
        [f"`{model}`", f"`{layout}`", *(f"{values[model, layout, figure]:,.0f}" for figure in figures)]
        for model, layout in dict.fromkeys((model, layout) for model, layout, _ in values)
    ]
    return _table(["model", "weights", *figures.values()], rows) + f"\nOn {lines[0]['machine']}.\n"


def bulk_limits_table() -> str:
    """What bulk holds itself to, and what of AWS's that keeps it within."""
    rows = [
        ["input", f"at most {_size(limits.LARGEST_INPUT)}", "ranges times the largest range"],
        ["line", f"at most {LARGEST_LINE:,} bytes", "memory: a line is held whole"],
        ["ranges", f"at most {limits.MOST_RANGES:,}", "children a distributed map runs at once: 10,000"],
        ["range", f"{_size(limits.RANGE_BYTES)}, at most {_size(limits.LARGEST_RANGE)}", "the function's memory"],
        ["what a state hands on", "keys and counts", f"payload: {limits.PAYLOAD_BYTES:,} bytes"],
        [
            "turns of a range",
            f"at most {limits.HISTORY_EVENTS // limits.EVENTS_OF_A_TURN:,}",
            f"history of an execution: {limits.HISTORY_EVENTS:,} events, {limits.EVENTS_OF_A_TURN} a turn",
        ],
        ["joined file", f"at most {_size(limits.LARGEST_OUTPUT)}", f"parts of an upload: {MOST_PARTS:,}"],
        [
            "part of a joined file",
            f"{_size(limits.JOINED_PART)}, at most {_size(limits.LARGEST_JOINED_PART)}",
            f"S3: at least {_size(SMALLEST_PART)}; memory",
        ],
    ]
    return _table(["what", "bound", "because of"], rows)


def bulk_costs_table() -> str:
    """What some files take, by the sums of lifecycle/bulk_estimate.py."""
    rows = []
    for lines, tokens in ((100_000, 64), (1_000_000, 64), (10_000_000, 64), (10_000_000, 16)):
        found = estimate(Job(lines, tokens=tokens))
        dollars = [f"{value:,.2f}" for value in (*found.dollars.values(), sum(found.dollars.values()))]
        minutes = [f"{found.minutes(concurrency):,.0f}" for concurrency in (10, 100, 1000)]
        rows.append([f"{lines:,}", str(tokens), f"{found.ranges:,}", f"{found.range_seconds:.0f}", *minutes, *dollars])
    times = ["seconds of a range", *(f"minutes at {concurrency:,}" for concurrency in (10, 100, 1000))]
    return _table(["prompts", "tokens each", "ranges", *times, "Lambda, $", "Step Functions, $", "S3, $", "$"], rows)


def plan_example() -> str:
    """What `lifecycle plan` says of some traffic."""
    plain = {"COLUMNS": "100", "FORCE_COLOR": None, "TTY_COMPATIBLE": None}  # whatever this terminal can do
    with chdir(ROOT):
        said = CliRunner().invoke(app, PLAN.split()[1:], env=plain, catch_exceptions=False).stdout
    return f"```\n$ {PLAN}\n{said}```\n"


def tandem_table() -> str:
    """What the front believes after each sign, by the rules themselves."""
    rows = []
    for belief in Belief:
        after = [rules.TRANSITIONS.get((belief, sign), belief) for sign in Sign]
        rows.append([f"**{belief.name}**", *("" if each is belief else each.name for each in after)])
    return _table(["believed", *(sign.name for sign in Sign)], rows)


def tandem_seconds_table() -> str:
    """How long the rules wait for what."""
    waits = {
        "between two looks, where no answered request shows that it is awake": rules.LOOK_SECONDS,
        "after the first failure, until the next look": rules.FIRST_PAUSE_SECONDS,
        "after many, each pause being twice the one before, at most": rules.LONGEST_PAUSE_SECONDS,
        "until what was seen says nothing about now": rules.MEMORY_SECONDS,
        "for a connection": CONNECT_SECONDS,
        "for the first byte of an answer: half of the time left, at most": rules.FIRST_BYTE_SECONDS,
        "for the next event of a stream": NEXT_EVENT_SECONDS,
    }
    return _table(["waiting", "seconds"], [[what, f"{seconds:g}"] for what, seconds in waits.items()])


SECTIONS: Mapping[str, Callable[[], str]] = {
    "settings": settings_table,
    "container settings": container_settings_table,
    "container metrics": container_metrics_table,
    "engine": engine_table,
    "coldstart": coldstart_table,
    "coldstart goals": coldstart_goals,
    "sizes": sizes_table,
    "plan": plan_example,
    "bulk limits": bulk_limits_table,
    "bulk costs": bulk_costs_table,
    "tandem": tandem_table,
    "tandem seconds": tandem_seconds_table,
}


def rendered(text: str) -> str:
    """A document with its generated parts renewed."""
    for name, section in SECTIONS.items():
        pattern = re.compile(rf"(<!-- {name}: generated by `make docs` -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        text = pattern.sub(lambda match, body=section: match[1] + body() + match[2], text)  # type: ignore[misc]
    return text


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Rows as a Markdown table."""
    first, *rest = (f"| {' | '.join(line)} |\n" for line in (header, *rows))
    return "".join([first, "|" + "---|" * len(header) + "\n", *rest])


def _size(count: int) -> str:
    """A number of bytes that is a multiple of a power of two."""
    unit, name = next((unit, name) for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")) if count >= unit)
    return f"{count / unit:,.0f} {name}"


def _results(name: str) -> list[dict[str, Any]]:
    """The lines of a benchmark's results."""
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(rendered(document.read_text()))
