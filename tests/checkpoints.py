"""Checkpoints as they lie on people's disks and on the hub, small, with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from handler.inference.config import ModelConfig
from lifecycle.checkpoint import Checkpoint
from lifecycle.importing import import_model
from tests.models import config_json, tokenizer_json

Arrays = dict[str, npt.NDArray[Any]]


def random_tensors(config: dict[str, Any], seed: int = 0) -> Arrays:
    """Random weights in 32 bits, under canonical names."""
    random = np.random.default_rng(seed)
    shapes = ModelConfig.from_json(config).tensor_shapes()
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def old_style(folder: Path, tensors: Arrays | None = None, **changes: Any) -> Arrays:
    """Write a checkpoint like openai-community/gpt2: names without prefix, mask buffers, no head, `n_ctx`.

    Args:
        folder: where to.
        tensors: the weights, random ones unless given; masks are added.
        changes: keys of `config.json` that differ.

    Returns:
        The weights, without masks.
    """
    config = config_json(**changes)
    tensors = random_tensors(config) if tensors is None else tensors
    mask = np.tril(np.ones((1, 1, config["n_positions"], config["n_positions"]), np.float32))
    masks = {f"h.{layer}.attn.bias": mask for layer in range(config["n_layer"])}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors | masks, folder / "model.safetensors", {"format": "pt"})
    document = config | {"n_ctx": config["n_positions"], "bos_token_id": 50256, "eos_token_id": 50256}
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "generation_config.json").write_text('{"bos_token_id": 50256, "eos_token_id": 50256}')
    (folder / "tokenizer.json").write_bytes(tokenizer_json(300))
    return tensors


def checkpoint(folder: Path, seed: int = 0, **changes: Any) -> Checkpoint:
    """Make a checkpoint folder that can be published."""
    source = folder.with_name(folder.name + "-source")
    old_style(source, random_tensors(config_json(**changes), seed), **changes)
    return import_model(str(source), folder)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
