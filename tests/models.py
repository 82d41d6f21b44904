"""Small real models for tests: tokenizers trained on the spot and checkpoints with random weights."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from handler.inference.config import ModelConfig
from handler.inference.native import NativeEngine
from handler.inference.packed import LAYOUT_BITS, unpack
from handler.inference.protocol import FloatArray, StepEngine
from handler.inference.tokenizer import END_OF_TEXT, Tokenizer
from handler.inference.weights import Tensor, read_tensors
from lifecycle.packing import pack

if TYPE_CHECKING:
    from handler.inference.reference import ReferenceEngine

TEXT = ["She said that the sea was the sea, and he heard her say so. “Well — naïve café!” said he; 日本語 🙂 там."]


def tokenizer_json(vocabulary_size: int = 300) -> bytes:
    """A byte-level BPE tokenizer as GPT-2 has it: end of text is the last id, and characters outside ASCII are split.

    Args:
        vocabulary_size: 257 (the bytes and the end of text) or more.
    """
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.train_from_iterator(
        TEXT * 3,
        trainers.BpeTrainer(
            vocab_size=vocabulary_size - 1,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    library.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return library.to_str().encode()


def tiny_tokenizer(vocabulary_size: int = 300) -> Tokenizer:
    """The same, read."""
    return Tokenizer(tokenizer_json(vocabulary_size))


def config_json(**changes: Any) -> dict[str, Any]:
    """The `config.json` of a GPT-2 small enough to run in a millisecond, with some keys changed."""
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": 2,
        "n_head": 4,
        "n_embd": 32,
        "n_inner": None,
        "n_positions": 64,
        "vocab_size": 300,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
    }
    return config | changes


def random_logits(seed: int, size: int = 2000, spread: float = 3.0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(size, np.float32) * np.float32(spread)


def random_checkpoint(config: ModelConfig, seed: int = 0, scale: float = 0.1) -> bytes:
    """A safetensors file with random weights in 32 bits, under the canonical names.

    Args:
        config: the architecture.
        seed: the same seed gives the same bytes.
        scale: their standard deviation; the larger, the more the next token depends on those before it.
    """
    random = np.random.default_rng(seed)
    header: dict[str, Any] = {}
    parts = []
    end = 0
    for name, shape in config.tensor_shapes().items():
        values = random.standard_normal(shape, np.float32) * np.float32(scale)
        if ".ln_" in f".{name}" and name.endswith("weight"):
            values += 1
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + values.nbytes]}
        parts.append(values.tobytes())
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def random_engine(config: dict[str, Any], *, slots: int = 4, seed: int = 0) -> "ReferenceEngine":
    """The reference engine with random weights and room for some sequences, on one thread."""
    from handler.inference.reference import ReferenceEngine  # torch takes seconds, and most tests do without it

    parsed = ModelConfig.from_json(config)
    tensors, _ = read_tensors(memoryview(random_checkpoint(parsed, seed)))
    per_sequence = parsed.layers * 2 * parsed.context_length * parsed.width * 4
    return ReferenceEngine(parsed, tensors, kv_cache_bytes=slots * per_sequence, threads=1)


def packed_tensors(config: ModelConfig, layout: str, *, seed: int = 0, scale: float = 0.1) -> dict[str, Tensor]:
    """Random weights, packed."""
    return pack(config, read_tensors(memoryview(random_checkpoint(config, seed, scale)))[0], layout)


def unpacked_weights(config: ModelConfig, tensors: dict[str, Tensor], layout: str) -> dict[str, np.ndarray[Any, Any]]:
    """The weights that packed tensors stand for, as arrays by their canonical names."""
    return {
        name: np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)
        for name, tensor in unpack(config, tensors, layout).items()
    }


ENGINES = ["reference", "transformers", *(pytest.param(layout, marks=pytest.mark.native) for layout in LAYOUT_BITS)]


def step_engine(kind: str, config: dict[str, Any], *, slots: int = 4) -> StepEngine:
    """An engine with random weights, one of `ENGINES`: in torch, or the native one on a packed layout."""
    parsed = ModelConfig.from_json(config)
    if kind == "reference":
        return random_engine(config, slots=slots)
    if kind == "transformers":
        # Imported here because most tests need no transformers, and it takes seconds.
        from handler.inference.causal import causal_engine

        tensors, _ = read_tensors(memoryview(random_checkpoint(parsed)))
        per_sequence = parsed.layers * 2 * parsed.context_length * parsed.width * 4
        return causal_engine(config, tensors, device="cpu", kv_cache_bytes=slots * per_sequence, threads=1)
    most = parsed.layers * 2 * parsed.context_length * parsed.heads * (parsed.head_size + 16) * 2  # a slot, and more
    return NativeEngine(parsed, packed_tensors(parsed, kind), kind, kv_cache_bytes=slots * most, threads=2)
