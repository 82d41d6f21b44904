"""Traffic that came, read from a file."""

import json
from pathlib import Path

import pytest

from handler.errors import CorruptModelError, InvalidRequestError
from lifecycle.planning.trace import read_traffic
from lifecycle.planning.traffic import Description, Request, Traffic

LINES: list[dict[str, object]] = [
    {"time": 7230.5, "prompt_tokens": 12, "output_tokens": 34},
    {"time": 30, "prompt_tokens": 5, "output_tokens": 6},
    {"time": 31.5, "prompt_tokens": 7, "output_tokens": 8},
]
# Two hours and half a second are three parts of 40 minutes.
READ = Traffic(
    (Request(0, 5, 6), Request(1.5, 7, 8), Request(7200.5, 12, 34)),
    7200.5,
    (2 / (7200.5 / 3), 0.0, 1 / (7200.5 / 3)),
)


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


def test_a_description(tmp_path: Path) -> None:
    fields = {"requests_per_second": 0.5, "prompt_tokens": 10, "output_tokens": {"p50": 20, "p95": 60}}
    path = written(tmp_path / "traffic.json", json.dumps(fields))
    assert read_traffic(path, seed=3) == Description.model_validate(fields).draw(3)


def test_a_trace_is_put_in_order_and_counted(tmp_path: Path) -> None:
    assert read_traffic(written(tmp_path / "t.jsonl", "\n".join(map(json.dumps, LINES)))) == READ


def test_times_may_be_dates(tmp_path: Path) -> None:
    times = ("2026-11-24T14:00:30.500Z", "2026-11-24 12:00:00.000", "2026-11-24T13:00:01.500+01:00")
    lines = [line | {"time": time} for line, time in zip(LINES, times, strict=True)]
    found = read_traffic(written(tmp_path / "t.jsonl", "\n".join(map(json.dumps, lines))))
    assert found.requests == (Request(0, 5, 6), Request(1.5, 7, 8), Request(7230.5, 12, 34))


def test_what_logs_insights_exports(tmp_path: Path) -> None:
    export = (
        "@timestamp,prompt_tokens,completion_tokens\n"
        "2026-11-24 14:00:00.500,12,34\n2026-11-24 12:00:00.000,5,6\n2026-11-24 12:00:01.500,7,8\n"
    )
    assert read_traffic(written(tmp_path / "t.csv", export)) == READ


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.jsonl", "", "traffic: a trace must hold requests of different times; given: 0, of"),
        (
            "t.jsonl",
            json.dumps(LINES[0]),
            "traffic: a trace must hold requests of different times; given: 1, of",
        ),
        ("t.jsonl", "[1]", "line 1: must be a JSON object; given: a list of 1 items"),
        ("t.jsonl", json.dumps(LINES[0]) + "\n{", "line 2: not JSON: Expecting property name"),
        ("t.jsonl", '{"time": 1, "prompt_tokens": 3}', "line 1: `output_tokens` is required."),
        (
            "t.jsonl",
            '{"time": 1, "prompt_tokens": 0, "output_tokens": 3}',
            "line 1: `prompt_tokens`: input should be greater than or equal to 1; given: 0.",
        ),
        (
            "t.jsonl",
            '{"time": "noon", "prompt_tokens": 3, "output_tokens": 3}',
            "line 1: `time` must be seconds or a date and time as of ISO 8601; given: a string of 4 characters",
        ),
        (
            "t.csv",
            "@timestamp,prompt_tokens\n2026-11-24 14:00:00.500,12\n",
            "traffic: the .csv must have the columns @timestamp, prompt_tokens, completion_tokens; missing: completion",
        ),
        ("t.csv", "", "traffic: the .csv must have the columns"),
        (
            "t.csv",
            "@timestamp,prompt_tokens,completion_tokens\n2026-11-24 14:00:00.500,many,1\n",
            "line 2: `prompt_tokens`: input should be a valid integer; given: a string of 4 characters.",
        ),
        (
            "t.csv",
            f"@timestamp,prompt_tokens,completion_tokens\n2026-11-24 14:00:00.500,{'9' * 5000},1\n",
            "line 2: `prompt_tokens`: input should be a valid integer; given: a string of 5000 characters.",
        ),
        ("t.csv", "@timestamp,\udcff\n", "traffic: t.csv cannot be read: 'utf-8' codec can't decode byte 0xff"),
        (
            "t.jsonl",
            "".join(json.dumps({**LINES[0], "time": at}) + "\n" for at in (0, 1e308)),
            "traffic: a trace may span 366 days at most; given: 1e+308 seconds",
        ),
        ("t.yaml", "", "traffic: must be a .json, .jsonl or .csv file, got 't.yaml'"),
    ],
)
def test_what_is_no_trace_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_traffic(written(tmp_path / name, text))
    assert refused.value.message.startswith(message)


def test_a_description_that_is_no_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptModelError, match="must hold a JSON object, not a list"):
        read_traffic(written(tmp_path / "t.json", "[]"))
