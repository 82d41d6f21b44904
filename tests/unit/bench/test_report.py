import io
import json
from pathlib import Path

from rich.console import Console

from bench.report import Report


def report() -> Report:
    made = Report()
    for reading in (30.0, 10.0, 21.004):
        made.add("decode", "native", {"batch": 1}, "tok/s", reading)
    made.add("decode", "baseline", {"batch": 1}, "tok/s", 7.0)
    made.add("prefill", "native", {"batch": 1}, "tok/s", 500)
    made.add("decode", "native", {"batch": 8}, "tok/s", 90)
    return made


def test_writes_a_line_per_series(tmp_path: Path) -> None:
    report().write(tmp_path / "results" / "engine.jsonl", "a machine")
    lines = [json.loads(line) for line in (tmp_path / "results" / "engine.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "figure": "decode",
        "subject": "native",
        "setting": {"batch": 1},
        "unit": "tok/s",
        "median": 21.004,
        "min": 10.0,
        "max": 30.0,
        "runs": 3,
        "machine": "a machine",
    }
    assert [(line["figure"], line["subject"], line["setting"]) for line in lines] == [
        ("decode", "native", {"batch": 1}),
        ("decode", "baseline", {"batch": 1}),
        ("prefill", "native", {"batch": 1}),
        ("decode", "native", {"batch": 8}),
    ]


def test_medians() -> None:
    assert report().median("decode", "native", {"batch": 1}) == 21.004
    assert report().median("decode", "native", {"batch": 2}) is None


def test_settings_come_once_each_in_order() -> None:
    assert report().settings() == [
        ("decode", {"batch": 1}, "tok/s"),
        ("prefill", {"batch": 1}, "tok/s"),
        ("decode", {"batch": 8}, "tok/s"),
    ]


def test_the_table_has_ratios_to_what_was_measured() -> None:
    references = {"x baseline": 7.0, "x floor": None}
    screen = io.StringIO()
    Console(file=screen, width=100).print(report().table("decode", {"batch": 1}, "Decoding", references))
    text = screen.getvalue()
    rows = [line.replace("│", " ").split() for line in text.splitlines() if "│" in line]
    assert rows == [["native", "21.00", "10.00", "30.00", "3.00"], ["baseline", "7.00", "7.00", "7.00", "1.00"]]
    assert "Decoding" in text
