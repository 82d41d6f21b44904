import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench.catalogue import catalogue
from bench.engine import BATCHES, NEW, PROMPT, Running, decode_setting, measure, prefill_setting, prompts, show
from bench.report import Report
from bench.subject import Subject
from bench.weights import step_bytes

ROOT = Path(__file__).parents[3]


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return {
        (name, "native"): Subject(
            [sys.executable, "-m", "tests.unit.bench.fake_subject", behaviour],
            os.environ,
            folder=ROOT,
            log=tmp_path / name,
        )
        for name, behaviour in (("reference", "works"), ("broken", "fails"), ("other", "works"))
    }


def test_measures_round_after_round_and_leaves_out_what_fails(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report()
    measure(running, report, 2, bandwidth=lambda threads: 10.0 * threads)
    for subject in running.values():
        subject.close()
    assert "broken (native): ValueError: one token too many" in capsys.readouterr().err
    counts = {
        (series.figure, series.subject, str(series.setting)): len(series.readings)
        for series in report
        if series.subject != "memory"
    }
    settings = [("decode", decode_setting(batch, "native")) for batch in BATCHES]
    settings += [("prefill", prefill_setting("native")), ("agreement", decode_setting(8, "native"))]
    assert counts == {
        (figure, name, str(setting)): 2 for figure, setting in settings for name in ("reference", "other")
    }
    assert report.median("agreement", "other", decode_setting(8, "native")) == 1.0
    assert report.median("bandwidth", "memory", {"threads": 2}) == 20.0


def test_the_floor_is_the_bytes_of_every_step_over_the_bandwidth() -> None:
    report = Report()
    measure({}, report, 1, bandwidth=lambda _threads: 20.0)
    setting = {"weights": "int8", "batch": 8, "prompt": PROMPT, "new": NEW, "threads": 2}
    # Sequences grow from the prompt to one token less than the whole: the mean length stands for all.
    seconds = NEW * step_bytes("packed-int8-v1", 8, PROMPT) / 20e9
    seconds += 8 * sum(range(NEW)) * 12 * 2 * 768 * 2 / 20e9
    assert report.median("floor", "memory", setting) == pytest.approx(8 * NEW / seconds)


def test_shows_a_table_per_figure_and_setting() -> None:
    report = Report()
    measure({}, report, 1, bandwidth=lambda _threads: 20.0)
    report.add("decode", "baseline", decode_setting(1, "native"), "tok/s", 10.0)
    report.add("decode", "ours", decode_setting(1, "native"), "tok/s", 80.0)
    screen = io.StringIO()
    show(report, Console(file=screen, width=120))
    text = screen.getvalue()
    assert "bandwidth, GB/s (threads 2)" in text
    (row,) = [line.replace("│", " ").split() for line in text.splitlines() if "ours" in line]
    assert row[:5] == ["ours", "80.00", "80.00", "80.00", "8.00"]
    # 20 GB/s over 125 MB is 160 steps a second, over 88 MB it is 228.
    assert [float(ratio) for ratio in row[5:]] == [pytest.approx(0.5, abs=0.02), pytest.approx(0.35, abs=0.02)]


def test_prompts_differ_and_are_of_the_length() -> None:
    random = np.random.default_rng(0)
    first, second = prompts(random, 2, 16), prompts(random, 2, 16)
    assert [len(prompt) for prompt in first] == [16, 16]
    assert first != second


def test_every_subject_has_its_program_and_requirements() -> None:
    entries = catalogue()
    assert len({(entry.name, entry.isa) for entry in entries}) == len(entries)
    for entry in entries:
        assert (ROOT / f"bench/peers/{entry.program}.py").exists()
        if entry.environment is not None:
            lines = (ROOT / f"bench/peers/{entry.environment.requirements}.txt").read_text().splitlines()
            assert all("==" in line or line.startswith(("#", "--")) for line in lines)
