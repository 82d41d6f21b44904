"""What happens in earnest: a full disk is told in one line, and what a kill has left is no obstacle."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.books import write_books
from tests.checkpoints import checkpoint
from tests.pages import write_pages

pytestmark = pytest.mark.training

TINY = ["--hold-out=tower", "--vocabulary=300", "--context=16", "--width=64", "--layers=2", "--heads=2", "--warmup=2",
        "--eval-every=4", "--threads=1", "--device=cpu"]  # fmt: skip


def lifecycle(*words: object, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own.

    Args:
        words: the command.
        largest_file: bytes after which writing fails as on a full disk, by the kernel's own hand.
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file or resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    command = [sys.executable, "-m", "lifecycle", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, preexec_fn=limit)


def test_a_full_disk_while_preparing(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "source.jsonl", 100)

    done = lifecycle("prepare", source, "--out", tmp_path / "out", largest_file=30_000)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source.jsonl"]


def test_a_full_disk_while_training_and_more_room_later(tmp_path: Path) -> None:
    words = ["train", write_books(tmp_path / "texts"), "--out", tmp_path / "out", "--steps=12", *TINY]

    done = lifecycle(*words, largest_file=100_000)

    assert done.returncode == 1
    assert "state.safetensors cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out" / "run").glob("*.partial"))
    assert lifecycle(*words).returncode == 0


def test_a_full_disk_while_evaluating(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model").folder
    text = write_pages(tmp_path / "pages.jsonl", 2)

    done = lifecycle("evaluate", folder, "--text", text, "--threads=1", largest_file=1000)

    assert done.returncode == 1
    assert "File too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (folder / "evaluation.json").exists()


def test_preparing_is_killed_and_done_again(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "source.jsonl", 3000)
    words = ["prepare", str(source), "--out", str(tmp_path / "out"), "--vocabulary=300"]
    process = subprocess.Popen([sys.executable, "-m", "lifecycle", *words], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".out-*/training.jsonl")) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()

    assert lifecycle(*words).returncode == 0
    assert (tmp_path / "out" / "index.json").exists()
