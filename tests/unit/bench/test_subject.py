import os
import sys
from pathlib import Path

import pytest

from bench.subject import Subject, SubjectError

ROOT = Path(__file__).parents[3]


def start(behaviour: str, tmp_path: Path, seconds: float = 30) -> Subject:
    command = [sys.executable, "-m", "tests.unit.bench.fake_subject", behaviour]
    return Subject(command, os.environ, folder=ROOT, log=tmp_path / "log", seconds=seconds)


def test_generates_time_after_time(tmp_path: Path) -> None:
    with start("works", tmp_path) as subject:
        first = subject.generate([[1, 2], [3, 4]], 3)
        second = subject.generate([[5]], 1)
    assert (first.tokens, second.tokens) == ([[3, 3, 3], [7, 7, 7]], [[5]])
    assert 0 < first.seconds < 1
    assert (tmp_path / "log").read_text() == "a library says hello where answers go\n"


def test_is_stopped_between_requests(tmp_path: Path) -> None:
    with start("works", tmp_path) as subject:
        subject.generate([[1]], 1)
        # The signal is delivered before the system call returns, at most a moment later.
        state = os.waitid(os.P_PID, subject.pid, os.WSTOPPED | os.WNOWAIT)
    assert state is not None


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("fails", "ValueError: one token too many"),
        ("stops early", r"was asked for 2 tokens behind each of 1 prompts, gave \[1\]"),
    ],
)
def test_failures_are_told(behaviour: str, message: str, tmp_path: Path) -> None:
    with start(behaviour, tmp_path) as subject, pytest.raises(SubjectError, match=message):
        subject.generate([[1]], 2)


def test_one_that_has_ended_is_told(tmp_path: Path) -> None:
    with start("fails", tmp_path) as subject:
        with pytest.raises(SubjectError):
            subject.generate([[1]], 2)
        with pytest.raises(SubjectError, match="ended with status 1, see "):
            subject.generate([[1]], 2)


def test_one_that_cannot_load_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SubjectError) as caught:
        start("cannot load", tmp_path)
    assert str(caught.value) == "OSError: there is no such model"


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    subject = start("hangs", tmp_path)
    with subject:
        subject.seconds = 0.2
        with pytest.raises(SubjectError, match=r"was ended after 0\.2 s"):
            subject.generate([[1]], 1)


def test_can_be_closed_twice(tmp_path: Path) -> None:
    subject = start("works", tmp_path)
    subject.close()
    subject.close()
