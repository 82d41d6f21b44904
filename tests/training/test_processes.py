"""Two processes that torchrun starts learn what one learns from the same batches, and are killed and resumed alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lifecycle.training.settings import TrainingSettings
from lifecycle.training.trainer import train
from tests.books import write_books
from tests.runs import log_of

SETTINGS = TrainingSettings(
    hold_out=("tower",), vocabulary=300, context=16, width=16, layers=2, heads=2, steps=12, warmup=2, eval_every=4,
    micro_batch=1, precision="fp32",
)  # fmt: skip

pytestmark = pytest.mark.training


def torchrun(texts: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run `lifecycle train` in two processes, as the README tells."""
    settings = {name: value for name, value in SETTINGS.as_json().items() if name not in {"hold_out", "recompute"}}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "lifecycle"]
    command += ["train", str(texts), f"--out={out}", "--hold-out=tower", "--threads=1", "--device=cpu"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """With dropout: it is drawn for each part of the batch, whoever computes it."""
    texts = write_books(tmp_path / "texts")
    train(texts, tmp_path / "one", SETTINGS)

    done = torchrun(texts, tmp_path / "two")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Perplexity") == 1
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for mine, theirs in zip(one, two, strict=True):
        # The same float32 sums, added up in two heaps; a dozen steps let them drift by a few roundings.
        assert theirs == pytest.approx(mine, rel=1e-5)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(tensor, second[name], atol=1e-4) for name, tensor in first.items())
    provenance = json.loads((tmp_path / "two" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["training"]["processes"] == 2
