"""The model that is loaded: GPT-2's 124 million random weights with a tokenizer of GPT-2's size, in 32, 8 and 4 bits.

Reading a tokenizer takes time, and how much depends on its tokens and merges: so this one has 50,000 merges, each of
two of the 256 byte tokens. It is nobody's language, but it costs what GPT-2's costs.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bench.peers.child import made
from bench.weights import random_checkpoint
from handler.inference.tokenizer import END_OF_TEXT
from lifecycle.checkpoint import PROVENANCE, TOKENIZER, WEIGHTS, read_json, write_json
from lifecycle.quantizing import quantize

MERGES: Final = 50_000

# The figures of quantizing, without which nothing is published, are taken on a text; random weights write none.
_TEXT: Final = "It was the best of times, it was the worst of times. " * 20


def random_model(cache: Path) -> Path:
    """The checkpoint folder in 32 bits, as the baseline program reads it and `lifecycle quantize` does."""
    return made(cache / "coldstart" / "gpt2", partial(_make, random_checkpoint(cache)))


def quantized_model(cache: Path, bits: int) -> Path:
    """The same, quantized by our own command; its name is the model's in the registry."""
    return made(cache / "coldstart" / f"gpt2-int{bits}", partial(_quantize, random_model(cache), bits))


def byte_pair_tokenizer() -> str:
    """A `tokenizer.json` of GPT-2's kind and size: 256 bytes, as many merges as GPT-2 has, and the end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(first, second) for first in alphabet for second in alphabet][:MERGES]
    tokens = [*alphabet, *(first + second for first, second in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return tokenizer.to_str()


def _make(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    os.link(source / WEIGHTS, folder / WEIGHTS)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        write_json(folder / name, read_json(source / name))
    (folder / TOKENIZER).write_text(byte_pair_tokenizer(), encoding="utf-8")
    (folder / PROVENANCE).write_text(json.dumps({"source": "random weights, for measuring"}))


def _quantize(source: Path, bits: int, folder: Path) -> None:
    text = folder.with_suffix(".txt")
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(_TEXT)
    quantize(source, folder, bits, text)
    text.unlink()
