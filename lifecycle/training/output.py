"""The checkpoint folder that a run leaves: what `lifecycle publish` takes."""

import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel, PreTrainedModel

from handler.inference.weights import Tensor
from lifecycle.checkpoint import (
    CHAT_TEMPLATE,
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
from lifecycle.training.base import Base
from lifecycle.training.model import checkpoint_config, named_tensors
from lifecycle.weights import write_tensors

_STORED_AS = {"float32": "F32", "float16": "F16"}


def write_output(
    out: Path, model: PreTrainedModel, tokenizer: bytes, *, dtype: str, provenance: Provenance, base: Base | None
) -> Checkpoint:
    """Write configuration, tokenizer, generation defaults, provenance and weights, and check what was written.

    What training does not touch, generation defaults and a chat template, is that of the base, if there is one.
    """
    if isinstance(model, GPT2LMHeadModel):
        end_of_text = model.config.eos_token_id
        write_json(out / CONFIG, checkpoint_config(model, dtype))
        write_json(out / GENERATION, {"bos_token_id": end_of_text, "eos_token_id": end_of_text})
    if base:
        if not base.checkpoint.is_gpt2:
            write_json(out / CONFIG, {**base.document, "dtype": dtype})
        for name in {GENERATION, CHAT_TEMPLATE}.intersection(base.checkpoint.files):
            shutil.copyfile(base.checkpoint.folder / name, out / name)
    write_json(out / PROVENANCE, asdict(provenance))
    (out / TOKENIZER).write_bytes(tokenizer)
    tensors = {}
    for name, tensor in named_tensors(model).items():
        stored = tensor.to(getattr(torch, dtype)).numpy()
        tensors[name] = Tensor(_STORED_AS[dtype], stored.shape, stored.data.cast("B"))
    write_tensors(out / WEIGHTS, tensors)
    return read_checkpoint(out)
