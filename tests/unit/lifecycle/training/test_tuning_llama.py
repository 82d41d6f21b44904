"""A model of another architecture is fine-tuned as a GPT-2 is: whole or by adapters, and nothing else of it changes."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lifecycle.checkpoint import read_checkpoint
from lifecycle.data.preparing import prepare
from lifecycle.data.splits import Shares
from lifecycle.importing import import_model
from lifecycle.training.base import read_base
from lifecycle.training.data import read_data
from lifecycle.training.evaluation import total_loss
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.trainer import train
from tests.causal_models import BEGIN, llama_folder
from tests.pages import write_pages
from tests.runs import log_of


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    import_model(str(llama_folder(folder / "source")), folder / "base")
    return folder / "base"


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_it_is_taken_further(lora_rank: int, llama: Path, texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    settings = dataclasses.replace(tiny, learning_rate=3e-3, lora_rank=lora_rank)
    weights = (llama / "model.safetensors").read_bytes()

    train(texts, tmp_path / "out", settings, base=llama)

    before, after = read_checkpoint(llama), read_checkpoint(tmp_path / "out")
    assert (after.architecture, after.files, after.dtype) == (before.architecture, before.files, before.dtype)
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (llama / name).read_bytes()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == json.loads((llama / "config.json").read_text())
    assert (llama / "model.safetensors").read_bytes() == weights

    # What was trained is what transformers reads from the folder, and it has learned.
    losses = [line["validation_loss"] for line in log_of(tmp_path / "out") if "validation_loss" in line]
    assert losses[-1] < losses[0]
    base = read_base(llama)
    validation = read_data(texts, base.shape(settings), base).validation
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    loss = total_loss(model, validation[:, :-1], validation[:, 1:]) / validation[:, 1:].size
    assert loss == pytest.approx(min(losses), abs=1e-5)

    # Adapters have moved matrices and nothing else.
    tensors, originals = load_file(tmp_path / "out" / "model.safetensors"), load_file(llama / "model.safetensors")
    moved = {name for name, tensor in tensors.items() if not torch.equal(tensor, originals[name])}
    assert moved == ({name for name in originals if "_proj." in name} if lora_rank else originals.keys())


def test_it_is_taken_further_from_shards(llama: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    write_pages(tmp_path / "pages.jsonl", 40, words=20)
    prepare(str(tmp_path / "pages.jsonl"), tmp_path / "shards", tokenizer=llama, shares=Shares(0.3, 0.3), near=1.0)

    train(tmp_path / "shards", tmp_path / "out", dataclasses.replace(tiny, hold_out=()), base=llama)

    assert read_checkpoint(tmp_path / "out").provenance.evaluation.keys() == {"test"}


def test_its_documents_begin_with_the_token_that_its_texts_begin_with(
    llama: Path, texts: Path, tiny: TrainingSettings
) -> None:
    base = read_base(llama)
    assert read_data(texts, base.shape(tiny), base).end_of_text == BEGIN
