"""From the tensors of any GPT-2 checkpoint to the tensors of the canonical one, openai-community/gpt2.

Checkpoints name their tensors `h.0...` or `transformer.h.0...`, may hold buffers with nothing but the causal mask, a
head that is the embedding once more, and an embedding padded to a round number of rows.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference.weights import Tensor
from lifecycle.checkpoint import WEIGHTS
from lifecycle.weights import map_tensors

EMBEDDING = "wte.weight"

_MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
_HEAD = "lm_head.weight"

# Padding makes an embedding a round number of rows; one that is larger by more than this is another model's.
_MAX_PADDING = 127


def no_safetensors(source: str) -> str:
    """What to tell somebody whose checkpoint has no safetensors."""
    return (
        f"{source} has no safetensors. Convert it once with transformers:"
        f" AutoModelForCausalLM.from_pretrained({source!r}).save_pretrained(FOLDER), save its tokenizer there, too,"
        " and import FOLDER"
    )


def map_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint under their names there, from one file or from all of its shards."""
    files = [folder / WEIGHTS] if (folder / WEIGHTS).exists() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        raise UnsupportedModelError(no_safetensors(str(folder)))
    return {name: tensor for file in files for name, tensor in map_tensors(file)[0].items()}


def canonical_tensors(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under canonical names, without the mask's buffers and without a head that is the embedding."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in given.items():
        canonical = name.removeprefix("transformer.")
        if canonical in tensors:
            raise CorruptModelError(f"{canonical} is given twice, with and without the prefix transformer.")
        if not _MASK.fullmatch(canonical):
            tensors[canonical] = tensor
    head, embedding = tensors.pop(_HEAD, None), tensors.get(EMBEDDING)
    if head is not None and head != embedding:
        raise UnsupportedModelError(f"{_HEAD} differs from {EMBEDDING}: an untied head is not implemented")
    return tensors


def without_padding(embedding: Tensor, tokens: int) -> Tensor:
    """The embedding's rows that stand for tokens."""
    rows, width = embedding.shape
    if not 0 <= rows - tokens <= _MAX_PADDING:
        raise CorruptModelError(
            f"the tokenizer has {tokens} tokens and {EMBEDDING} {rows} rows: they must be as many,"
            f" or up to {_MAX_PADDING} rows more as padding"
        )
    return replace(embedding, shape=(tokens, width), data=embedding.data[: len(embedding.data) // rows * tokens])
