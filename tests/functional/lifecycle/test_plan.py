"""`lifecycle plan`: what a person types, sees and is told."""

import json
import sys
from pathlib import Path

import pytest

from lifecycle import cli
from lifecycle.planning.prices import LIST_PRICES


def plan(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command in this process; the exit status."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["lifecycle", "plan", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    assert isinstance(code, int | None)
    return code or 0


def test_a_few_requests_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of figures, a column a target, and then sentences."""
    page = tmp_path / "plan.html"
    words = ("--requests-per-day", 300, "--goal", 2, "--gpu-tokens-per-second", 6400, "--out", page)
    assert plan(monkeypatch, *words) == 0
    said = capsys.readouterr()
    title, _, header, _, *lines = said.out.splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert title == "300 requests a day, 100 tokens read and 80 written each"
    assert [cell.strip() for cell in header.strip("┃").split("┃")] == ["", "Lambda", "GPU", "Lambda before GPU"]
    assert [row[0] for row in rows] == [
        "dollars a month",
        "dollars a million tokens",
        *(
            f"{name}, {percentile}, s"
            for name in ("first token", "whole answer")
            for percentile in ("p50", "p95", "p99")
        ),
        "met a cold start",
        "refused",
        "answered by a GPU",
        "95 % whole in 2 s",
    ]
    cost = [float(value.replace(",", "")) for value in rows[0][1:]]
    assert cost[0] < cost[2] < cost[1]
    assert rows[-1] == ["95 % whole in 2 s", "no", "yes", "no"]  # a cold start is later than that, and one in nine is
    assert "GPU: cheaper than Lambda alone from " in said.out
    assert "- The GPU's speed is assumed, not measured: " in said.out
    assert said.err == f"page: {page}\n"
    written = page.read_text()
    assert written.count("<svg") == 4
    assert "GPU: cheaper than Lambda alone from " in written
    assert not any(word in written for word in ("src=", "<link", "@import"))  # it asks nobody for anything


def test_a_file_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "traffic.json"
    path.write_text('{"requests_per_second": 0.002, "prompt_tokens": 100, "output_tokens": {"p50": 60, "p95": 200}}')
    options = (
        "--model",
        "gpt2-xl",
        "--instance",
        "g4dn.xlarge",
        "--spot",
        "--capacity",
        "group",
        "--snapshot-start",
        0.8,
        "--memory",
        4096,
    )
    assert plan(monkeypatch, path, *options, "--gpu-tokens-per-second", 3200, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["traffic", "notes", "targets", "crossings", "curve"]
    assert found["targets"]["lambda"]["dollars"]["snapshots"] > 15  # 4 GB, ever cached
    assert found["targets"]["gpu"]["dollars"]["GPU instances"] == pytest.approx(730 * 0.2039, abs=0.01)
    assert found["notes"][0].startswith(
        "The GPU's speed is assumed, not measured: 3,200 tokens a second written for 64"
    )
    assert found["notes"][1] == "The start from a snapshot is assumed, not measured: 0.8 s."


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "traffic: give either a file or --requests-per-day"),
        (("traffic.json", "--requests-per-day", "9"), "traffic: give either a file or --requests-per-day"),
        (("--requests-per-day", "0"), "requests-per-day: must be a number above 0, got 0"),
        (("--requests-per-day", "nan"), "requests-per-day: must be a number above 0, got nan"),
        (("--requests-per-day", "9", "--goal", "-1"), "goal: must be a number above 0, got -1"),
        (
            ("--requests-per-day", "9", "--gpu-tokens-per-second", "inf"),
            "gpu-tokens-per-second: must be a number above 0, got inf",
        ),
        (
            ("--requests-per-day", "9", "--model", "gpt3"),
            "model: 'gpt3' was not measured with 8 bits; known: gpt2, gpt2-medium, gpt2-large, gpt2-xl",
        ),
        (("missing.jsonl",), "[Errno 2] No such file or directory: 'missing.jsonl'"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    words: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan(monkeypatch, *words) == 1
    assert capsys.readouterr().err == f"error: {told}\n"


def test_without_a_price_there_is_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(LIST_PRICES.read_text())
    del document["prices"]["g6.xlarge_spot_hour"]
    (tmp_path / "prices.json").write_text(json.dumps(document))
    words = ("--requests-per-day", 9, "--spot", "--prices", tmp_path / "prices.json")
    assert plan(monkeypatch, *words) == 1
    assert capsys.readouterr().err.startswith("error: prices: g6.xlarge_spot_hour is missing; given are ")
