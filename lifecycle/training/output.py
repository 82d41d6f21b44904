"""The checkpoint folder that a run leaves: what `lifecycle publish` takes."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from lifecycle.training.model import checkpoint_config, named_tensors


def write_output(
    out: Path, model: GPT2LMHeadModel, tokenizer: Tokenizer, *, dtype: str, provenance: dict[str, object]
) -> None:
    """Write config, tokenizer, generation defaults, provenance and weights."""
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in named_tensors(model).items()}
    end_of_text = model.config.eos_token_id
    documents = {
        "config.json": checkpoint_config(model, dtype),
        "generation_config.json": {"bos_token_id": end_of_text, "eos_token_id": end_of_text},
        "provenance.json": provenance,
    }
    for name, value in documents.items():
        (out / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(str(out / "tokenizer.json"))
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
