"""Packed weights: the tensors of a quantized model in the form in which the native engine's kernels read them.

A linear layer of K inputs and N outputs is cut into blocks of 16 rows (outputs) by 4 columns (inputs); the blocks of
the same rows lie one behind the other, so that a product reads memory from front to back. K is padded to a multiple
of 64, N to one of 16. native/layout.h draws it.

- `packed-int8-v1`: a byte is a weight + 128, every row has one scale. NAME.weight U8 (N/16, K/4, 16, 4), NAME.scale
  F32 (N), NAME.bias F32 (N).
- `packed-int4-v1`: a byte is two weights + 8 each; the low halves of a block are columns 0 to 3, the high halves 4 to
  7. Every row has a scale per 32 columns. NAME.weight U8 (N/16, K/8, 16, 4), NAME.scale F16 (N/16, K/32, 16), NAME.bias
  as above.

Either way the token embeddings, which are the head as well, have 8 bits; position embeddings are F16, layer norms F32,
both with their width padded to a multiple of 64.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.protocol import FloatArray
from handler.inference.weights import Tensor

LAYOUT_BITS: Final = {"packed-int8-v1": 8, "packed-int4-v1": 4}

ROWS: Final = 16
COLUMNS: Final = 4
ACTIVATION_GROUP: Final = 64  # columns that share an activation's scale
INT4_GROUP: Final = 32  # columns that share a weight's scale, where weights have 4 bits
INT8_OFFSET: Final = 128
INT4_OFFSET: Final = 8

_DTYPES: Final = {"U8": "u1", "F16": "<f2", "F32": "<f4"}


def padded(size: int, multiple: int) -> int:
    """The size rounded up to a multiple."""
    return -(-size // multiple) * multiple


def bits_of(layout: str) -> int:
    """The bits of a layout's weights.

    Raises:
        UnsupportedModelError: it is not known here; the message names those that are.
    """
    if layout not in LAYOUT_BITS:
        raise UnsupportedModelError(f"the weights' layout is {layout!r}; known here: {', '.join(LAYOUT_BITS)}")
    return LAYOUT_BITS[layout]


def packed_tensors(config: ModelConfig, layout: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every tensor of a packed model: its name, dtype and shape, in the order of the file.

    Raises:
        UnsupportedModelError: the layout is not known.
    """
    bits = bits_of(layout)
    width = padded(config.width, ACTIVATION_GROUP)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in config.tensor_shapes().items():
        layer, kind = name.rsplit(".", 1)
        if name == "wpe.weight":
            tensors[name] = "F16", (shape[0], width)
        elif name == "wte.weight":
            tensors |= _matrix(layer, rows=shape[0], columns=shape[1], bits=8)
        elif len(shape) == 2:
            tensors |= _matrix(layer, rows=shape[1], columns=shape[0], bits=bits)
        elif is_norm(layer):
            tensors[name] = "F32", (width,)
        else:
            tensors[f"{layer}.{kind}"] = "F32", (padded(shape[0], ROWS),)
    return tensors


def is_norm(layer: str) -> bool:
    """Whether the layer of this name is a layer normalization."""
    return layer.rsplit(".", 1)[-1].startswith("ln_")


def _matrix(layer: str, *, rows: int, columns: int, bits: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    blocks, inputs = padded(rows, ROWS) // ROWS, padded(columns, ACTIVATION_GROUP)
    per_block = COLUMNS * 8 // bits
    scale = ("F32", (blocks * ROWS,)) if bits == 8 else ("F16", (blocks, inputs // INT4_GROUP, ROWS))
    return {f"{layer}.weight": ("U8", (blocks, inputs // per_block, ROWS, COLUMNS)), f"{layer}.scale": scale}


def check_packed(config: ModelConfig, tensors: Mapping[str, Tensor], layout: str) -> None:
    """See that there are exactly the layout's tensors, each of its dtype and shape.

    Raises:
        CorruptModelError: one is missing, too many, or not as it should be; the message names it.
        UnsupportedModelError: the layout is not known.
    """
    expected = packed_tensors(config, layout)
    for name, (dtype, shape) in expected.items():
        if name not in tensors:
            raise CorruptModelError(f"{layout}: tensor {name!r} is missing")
        given = tensors[name]
        if (given.dtype, given.shape) != (dtype, shape):
            raise CorruptModelError(
                f"{layout}: tensor {name!r} must be {dtype} {list(shape)}, given {given.dtype} {list(given.shape)}"
            )
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise CorruptModelError(f"{layout}: tensor {unknown[0]!r} is no part of it")


def unpack(config: ModelConfig, tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """The weights that a packed model stands for, in 32 bits and in the form of a checkpoint.

    Raises:
        CorruptModelError: the tensors are not as the layout has them.
        UnsupportedModelError: the layout is not known.
    """
    check_packed(config, tensors, layout)
    arrays = {name: np.frombuffer(t.data, _DTYPES[t.dtype]).reshape(t.shape) for name, t in tensors.items()}
    weights: dict[str, Tensor] = {}
    for name, shape in config.tensor_shapes().items():
        layer = name.rsplit(".", 1)[0]
        weight = arrays[name]
        if weight.dtype == np.uint8:
            weight = _unpack_matrix(weight, arrays[f"{layer}.scale"])
            weight = weight if name == "wte.weight" else weight.T
        weight = np.ascontiguousarray(weight[tuple(slice(size) for size in shape)], np.float32)
        weights[name] = Tensor("F32", shape, weight.data.cast("B"))
    return weights


def _unpack_matrix(packed: npt.NDArray[np.uint8], scale: npt.NDArray[np.floating]) -> FloatArray:
    """(rows, columns), padding included."""
    rows = len(packed) * ROWS
    if scale.ndim == 1:
        whole = packed.transpose(0, 2, 1, 3).reshape(rows, -1).astype(np.float32) - INT8_OFFSET
        return np.asarray(whole * scale[:, None])
    blocks = packed.transpose(0, 2, 1, 3)  # (N/16, 16, K/8, 4)
    whole = np.stack([blocks & 15, blocks >> 4], axis=3).reshape(rows, -1).astype(np.float32) - INT4_OFFSET
    scales = scale.transpose(0, 2, 1).reshape(rows, -1).astype(np.float32)  # (N, K/32)
    return np.asarray(whole * np.repeat(scales, INT4_GROUP, axis=1))
