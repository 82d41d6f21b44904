"""The pieces of the cold-start benchmark: the cap on the network, the store's log, the tokenizer of GPT-2's size."""

import json
import re
import threading

import pytest

from bench.cold.checkpoints import MERGES, byte_pair_tokenizer
from bench.cold.function import IMAGE
from bench.cold.goals import add_goals, goals
from bench.cold.store import Read, read_of
from bench.cold.throttle import BURST_SECONDS, Meter
from bench.engine import ROOT
from bench.report import Report, Setting
from handler.inference.tokenizer import Tokenizer


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_so_many_bytes_pass_a_second_and_no_more() -> None:
    clock = Clock()
    meter = Meter(1000, clock, clock.sleep)
    for _ in range(100):
        meter.take(50)
    assert clock.now - 100 == pytest.approx(5.0, abs=BURST_SECONDS)


def test_time_that_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    meter = Meter(1000, clock, clock.sleep)
    clock.sleep(60)
    meter.take(1000)
    assert clock.now - 160 == pytest.approx(1 - BURST_SECONDS, abs=1e-6)


def test_connections_share_the_cap() -> None:
    clock = Clock()
    meter = Meter(1000, clock, clock.sleep)
    threads = [threading.Thread(target=meter.take, args=[500]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now - 100 >= 2 - BURST_SECONDS - 1e-6


def test_a_line_of_the_stores_log() -> None:
    line = {"ended": 12.5, "seconds": 0.5, "status": 206, "bytes": 7, "path": "/models/a", "range": "bytes=0-6"}
    assert read_of(json.dumps(line)) == Read(12.0, 12.5, 206, 7, "/models/a", "bytes=0-6")


def test_the_tokenizer_is_of_gpt2s_size_and_ours_reads_it() -> None:
    tokenizer = Tokenizer(byte_pair_tokenizer().encode())
    assert tokenizer.vocabulary_size == 256 + MERGES + 1
    assert tokenizer.decode(tokenizer.encode("Once upon a time")) == "Once upon a time"


def measured(**changes: float) -> Report:
    """A run in which every goal is met, some figures of it changed."""
    warm, dropped = ({"cache": cache, "store": "unthrottled"} for cache in ("warm", "dropped"))
    report, copy = Report(), {"store": "copy on the disk"}
    figures: list[tuple[str, str, Setting, str, float]] = [
        ("first_token", "us", warm, "s", 0.9),
        ("first_token", "us", dropped, "s", 1.0),
        ("first_token", "us", {"cache": "warm", "store": "75MiBps"}, "s", 2.0),
        ("first_token", "baseline", {"cache": "warm", "store": "local disk"}, "s", 5.0),
        ("first_token", "baseline", {"cache": "dropped", "store": "local disk"}, "s", 8.0),
        ("imports", "us", warm, "s", 0.7),
        ("first_request", "us", warm, "s", 0.2),
        ("peak", "us", warm, "MB", 250),
        ("bytes", "us", {}, "MB", 126),
        ("loader", "curl", {"hashing": "off"}, "MB/s", 1260),
        ("loader", "us", {"hashing": "off"}, "MB/s", 1200),
        ("loader", "us", {"hashing": "on"}, "MB/s", 900),
        ("hashing", "sha256", {}, "s", 0.06),
        ("bytes_read", "us", copy, "bytes", 0),
        ("imports", "us", copy, "s", 0.6),
        ("first_token", "us", copy, "s", 0.8),
        *(("at_once", "us", {"environments": 20}, "s", seconds) for seconds in (9.0, 10.0, 11.0)),
    ]
    for figure, subject, setting, unit, reading in figures:
        report.add(figure, subject, setting, unit, changes.get(figure, reading))
    return report


def test_goals_are_bounds_and_what_was_reached() -> None:
    found = [(goal.kind, round(goal.bound, 3), round(goal.reached, 3), goal.unit) for goal in goals(measured())]
    assert found == [
        ("at most", 0.2, 0.18, ""),
        ("at most", 0.167, 0.125, ""),
        ("at most", 0.977, 0.9, "s"),
        ("at most", 2.142, 2.0, "s"),
        ("at least", 0.9, 0.952, ""),
        ("at most", 0.184, 0.14, "s"),
        ("at most", 0.25, 0.2, "s"),
        ("at most", 0, 0, "bytes"),
        ("at most", 0.85, 0.8, "s"),
        ("at most", 376, 250, "MB"),
        ("at most", 30.0, 11.0, "s"),
    ]
    assert all(goal.is_met for goal in goals(measured()))


def test_what_misses_a_goal_says_so() -> None:
    report = measured(bytes_read=1, first_request=0.3, peak=400)
    add_goals(report)
    missed = [series.setting["goal"] for series in report if series.figure == "goal" and not series.setting["met"]]
    assert missed == [
        "first ranged read on the wire", "second process: bytes from S3", "peak memory, against the weights",
    ]  # fmt: skip


def test_the_function_is_measured_as_the_image_sets_it_up() -> None:
    (line,) = re.findall(r"^ENV PATH=\S+ (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert dict(variable.split("=") for variable in line.split()) == IMAGE
