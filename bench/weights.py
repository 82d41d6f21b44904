"""The weights that are measured: GPT-2's 124 million, random, made once; and the same packed by our own quantizer.

Speed does not depend on what the weights say. The tokenizer has GPT-2's size and a token for every byte: whatever text
its first tokens spell is read back as the same tokens, which is what the baseline's pipeline needs.
"""

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bench.peers.child import made
from handler.inference.config import ModelConfig
from handler.inference.packed import LAYOUT_BITS, packed_tensors
from handler.inference.protocol import FloatArray
from handler.inference.tokenizer import END_OF_TEXT
from handler.inference.weights import DTYPE_BYTES, Tensor
from lifecycle.checkpoint import CONFIG, GENERATION, TOKENIZER, WEIGHTS, read_json, write_json
from lifecycle.packing import pack
from lifecycle.weights import map_tensors, write_tensors

END: Final = 50256
PRINTABLE: Final = 94  # the first tokens are the printable characters of ASCII, in order

# Nothing ends a text here: every subject writes as many tokens as it is asked for.
_CONFIG: Final = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "n_positions": 1024,
    "vocab_size": END + 1,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": END,
    "eos_token_id": None,
}


def random_checkpoint(folder: Path) -> Path:
    """The checkpoint `folder`/gpt2-random, with the distribution GPT-2's training starts from (0.02)."""
    return made(folder / "gpt2-random", _make)


def packed_checkpoint(source: Path, layout: str) -> Path:
    """The checkpoint packed, beside it."""
    return made(source.with_name(layout), partial(_pack, source, layout))


def step_bytes(layout: str, sequences: int, length: int) -> int:
    """What the native engine must read of memory at the least to add one token to each sequence.

    All weights but the position embeddings, once, and every sequence's keys and values, of 16 bits.

    Args:
        layout: how the weights are packed.
        sequences: how many are decoded together.
        length: tokens of each sequence, with the one that is added.
    """
    config = ModelConfig.from_json(_CONFIG)
    weights = sum(
        int(np.prod(shape)) * DTYPE_BYTES[dtype]
        for name, (dtype, shape) in packed_tensors(config, layout).items()
        if name != "wpe.weight"
    )
    return weights + sequences * length * config.layers * 2 * config.width * 2


def layout_of(bits: int) -> str:
    """The layout with weights of so many bits."""
    return next(layout for layout, of in LAYOUT_BITS.items() if of == bits)


def _make(folder: Path) -> None:
    folder.mkdir()
    write_json(folder / CONFIG, _CONFIG)
    write_json(folder / GENERATION, {"bos_token_id": END})
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special})
    (folder / TOKENIZER).write_text(_tokenizer().to_str(), encoding="utf-8")
    random = np.random.default_rng(0)
    write_tensors(folder / WEIGHTS, {
        name: Tensor("F32", shape, _values(random, name, shape).data.cast("B"))
        for name, shape in ModelConfig.from_json(_CONFIG).tensor_shapes().items()
    })  # fmt: skip


def _values(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> FloatArray:
    if len(shape) == 2:
        return random.standard_normal(shape, np.float32) * np.float32(0.02)
    return np.full(shape, name.endswith("weight"), np.float32)  # layer norms change nothing, biases add nothing


def _tokenizer() -> Tokenizer:
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [f"<filler {number}>" for number in range(END - len(tokens))]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return tokenizer


def _pack(source: Path, layout: str, folder: Path) -> None:
    folder.mkdir()
    config = read_json(source / CONFIG)
    write_json(folder / CONFIG, config)
    tensors, _ = map_tensors(source / WEIGHTS)
    write_tensors(folder / WEIGHTS, pack(ModelConfig.from_json(config), tensors, layout), layout)
