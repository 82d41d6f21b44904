"""The checkpoint folder that a run leaves: what `lifecycle publish` takes."""

from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from handler.inference.weights import Tensor
from lifecycle.checkpoint import (
    CONFIG,
    GENERATION,
    PROVENANCE,
    TOKENIZER,
    WEIGHTS,
    Checkpoint,
    Provenance,
    read_checkpoint,
    write_json,
)
from lifecycle.training.model import checkpoint_config, named_tensors
from lifecycle.weights import write_tensors

_STORED_AS = {"float32": "F32", "float16": "F16"}


def write_output(
    out: Path, model: GPT2LMHeadModel, tokenizer: Tokenizer, *, dtype: str, provenance: Provenance
) -> Checkpoint:
    """Write configuration, tokenizer, generation defaults, provenance and weights, and check what was written."""
    end_of_text = model.config.eos_token_id
    write_json(out / CONFIG, checkpoint_config(model, dtype))
    write_json(out / GENERATION, {"bos_token_id": end_of_text, "eos_token_id": end_of_text})
    write_json(out / PROVENANCE, asdict(provenance))
    tokenizer.save(str(out / TOKENIZER))
    tensors = {}
    for name, tensor in named_tensors(model).items():
        stored = tensor.to(getattr(torch, dtype)).numpy()
        tensors[name] = Tensor(_STORED_AS[dtype], stored.shape, stored.data.cast("B"))
    write_tensors(out / WEIGHTS, tensors)
    return read_checkpoint(out)
