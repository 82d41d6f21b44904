"""Whole runs: they learn, never see held-out books, resume exactly after a kill, and leave a checkpoint that serves."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import GPT2LMHeadModel

from handler.errors import InvalidRequestError
from handler.inference.config import ModelConfig
from lifecycle.training import trainer
from lifecycle.training.batches import Batches, Ids
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.trainer import train
from tests.runs import log_of

PUBLISHED = {"config.json", "generation_config.json", "model.safetensors", "provenance.json", "tokenizer.json"}


def test_a_run_learns_and_leaves_a_checkpoint(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    out = tmp_path / "out"
    settings = dataclasses.replace(tiny, steps=60, warmup=5, eval_every=20, learning_rate=1e-2)

    train(texts, out, settings, dtype="float16", license_="CC0-1.0")

    log = log_of(out)
    assert [line["step"] for line in log] == [10, 20, 30, 40, 50, 60]
    assert [line["step"] for line in log if "validation_loss" in line] == [20, 40, 60]
    assert log[-1]["training_loss"] < log[0]["training_loss"] - 1
    assert {path.name for path in out.iterdir()} == PUBLISHED | {"run"}
    assert {path.name for path in (out / "run").iterdir()} == {
        "curve.png",
        "log.jsonl",
        "settings.json",
        "state.safetensors",
    }
    config = ModelConfig.from_json(json.loads((out / "config.json").read_text(encoding="utf-8")))
    tensors = load_file(out / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == config.tensor_shapes()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert Tokenizer.from_file(str(out / "tokenizer.json")).get_vocab_size() == config.vocabulary_size == 300
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert {key: provenance[key] for key in ("source", "license", "derived_from")} == {
        "source": "lifecycle train on hills, marsh",
        "license": "CC0-1.0",
        "derived_from": None,
    }
    assert provenance["evaluation"].keys() == {"tower"}
    assert 1 < provenance["evaluation"]["tower"]["perplexity_per_token"] < 300
    assert provenance["training"].items() >= settings.as_json().items()


def test_transformers_loads_the_checkpoint(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    train(texts, tmp_path / "out", tiny)

    model = GPT2LMHeadModel.from_pretrained(tmp_path / "out")

    stored = load_file(tmp_path / "out" / "model.safetensors")
    loaded = model.transformer.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())
    assert model.config.eos_token_id == 0


def test_held_out_books_never_reach_a_batch(
    texts: Path, tmp_path: Path, tiny: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every token of every batch is decoded; the people of the held-out book live in no other."""
    seen: list[Ids] = []

    class Spied(Batches):
        def at(self, step: int) -> Ids:
            seen.append(super().at(step))
            return seen[-1]

    monkeypatch.setattr(trainer, "Batches", Spied)

    train(texts, tmp_path / "out", dataclasses.replace(tiny, steps=30))

    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    text = "".join(tokenizer.decode(row.tolist()) for batch in seen for row in batch)
    assert len(seen) == 30
    assert "Anna" in text
    assert "Edith" in text
    assert "Zebulon" not in text
    assert "Quincey" not in text
    assert not [token for token in tokenizer.get_vocab() if "bul" in token or "uinc" in token]


def test_a_killed_run_resumes_to_the_same_curve_and_weights(
    texts: Path, tmp_path: Path, tiny: TrainingSettings
) -> None:
    settings = dataclasses.replace(tiny, steps=200, warmup=10, eval_every=20, width=64, dropout=0.2)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(texts, whole, settings)

    program = (
        "import sys, torch, pathlib; from lifecycle.training.settings import TrainingSettings; "
        "from lifecycle.training.trainer import train; torch.set_num_threads(1); "
        "import json; values = json.loads(sys.argv[3]); values['hold_out'] = tuple(values['hold_out']); "
        "train(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), TrainingSettings(**values))"
    )
    arguments = [sys.executable, "-c", program, str(texts), str(killed), json.dumps(settings.as_json())]
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    log = killed / "run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text(encoding="utf-8").count("\n") >= 3):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    logged = log_of(killed)[-1]["step"]
    assert 20 <= logged < 200

    train(texts, killed, settings)

    assert log_of(killed) == log_of(whole)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert not list((killed / "run").glob("*.partial"))


def test_a_finished_run_is_not_trained_further(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    train(texts, tmp_path / "out", tiny)
    before = (tmp_path / "out" / "run" / "state.safetensors").stat().st_mtime_ns

    train(texts, tmp_path / "out", tiny)

    assert (tmp_path / "out" / "run" / "state.safetensors").stat().st_mtime_ns == before
    assert [line["step"] for line in log_of(tmp_path / "out")] == [4, 8, 10, 12]


def test_the_best_weights_are_kept_not_the_last(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    """At an absurd learning rate the loss explodes after the first evaluation."""
    train(texts, tmp_path / "out", dataclasses.replace(tiny, steps=40, warmup=39, eval_every=5, learning_rate=3.0))

    validation = {
        line["step"]: line["validation_loss"] for line in log_of(tmp_path / "out") if "validation_loss" in line
    }
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    best = min(validation, key=lambda step: validation[step])
    assert best < 40
    assert provenance["training"]["best_step"] == best
    assert provenance["evaluation"]["tower"]["perplexity_per_token"] < torch.tensor(validation[40]).exp().item()


def test_the_gradient_is_clipped(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    """The norm before clipping is logged; the one the optimizer gets is at most the bound."""
    settings = dataclasses.replace(tiny, clip=0.25, steps=10, learning_rate=1e-2)
    norms: list[float] = []

    def record(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])).item())

    hook = register_optimizer_step_pre_hook(record)
    try:
        train(texts, tmp_path / "out", settings)
    finally:
        hook.remove()

    assert log_of(tmp_path / "out")[-1]["gradient_norm"] > 0.25
    assert len(norms) == 10
    assert max(norms) == pytest.approx(0.25, rel=1e-4)  # clip_grad_norm_ divides by the norm + 1e-6


def test_another_runs_folder_is_refused(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    out = tmp_path / "out"
    train(texts, out, tiny)

    with pytest.raises(InvalidRequestError) as raised:
        train(texts, out, dataclasses.replace(tiny, dropout=0.3))

    assert raised.value.message == (
        f"out: {out / 'run'} holds a run with other settings, so it cannot be resumed: dropout was 0.1 and is 0.3; "
        "remove it, or choose another --out"
    )


def test_a_run_is_not_resumed_on_other_texts(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    train(texts, tmp_path / "out", tiny)
    with (texts / "hills.txt").open("a", encoding="utf-8") as file:
        file.write("One sentence more.")

    with pytest.raises(InvalidRequestError, match="texts_sha256"):
        train(texts, tmp_path / "out", tiny)


def test_settings_that_are_refused_leave_nothing_behind(tiny: TrainingSettings, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="texts: one batch takes 4096 windows of 16 tokens"):
        train(texts, tmp_path / "out", dataclasses.replace(tiny, batch_size=4096))

    assert not (tmp_path / "out").exists()


def test_held_out_books_shorter_than_a_window_are_refused(tiny: TrainingSettings, texts: Path, tmp_path: Path) -> None:
    (texts / "tower.txt").write_text("Short.", encoding="utf-8")

    with pytest.raises(InvalidRequestError, match=r"hold-out: one window takes 17 tokens; the held-out texts have \d"):
        train(texts, tmp_path / "out", tiny)
