"""Packs the weights of a checkpoint into 8 or 4 bits: `handler/inference/packed.py` says into what form.

Eight bits need no more than the largest weight of a row for a scale. Four bits do: of a group of 32 weights, the scale
is taken that leaves the least squared error, of a range around the two obvious ones (the largest magnitude on 7, and
the largest weight on -8, which has one step more to its side).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from handler.inference.config import ModelConfig
from handler.inference.packed import (
    ACTIVATION_GROUP,
    COLUMNS,
    INT4_GROUP,
    INT4_OFFSET,
    INT8_OFFSET,
    ROWS,
    bits_of,
    is_norm,
    packed_tensors,
    padded,
)
from handler.inference.protocol import FloatArray
from handler.inference.weights import Tensor

_DTYPES: Final = {"F32": "<f4", "F16": "<f2"}

# What the scales of 4 bits are tried at, as shares of the one that reaches the extreme weight.
_SHARES: Final = np.linspace(0.7, 1.05, 15)


def pack(config: ModelConfig, tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """The packed tensors of a checkpoint, in the order of the file.

    Args:
        config: the architecture.
        tensors: its weights by their canonical names, of any floating type.
        layout: the form to pack into.

    Raises:
        UnsupportedModelError: the layout is not known.
    """
    bits = bits_of(layout)
    shapes = packed_tensors(config, layout)
    packed: dict[str, npt.NDArray[np.generic]] = {}
    for name in config.tensor_shapes():
        weight = _floats(tensors[name])
        layer = name.rsplit(".", 1)[0]
        if name == "wte.weight":
            packed[name], packed[f"{layer}.scale"] = _pack_int8(weight)
        elif name == "wpe.weight":
            packed[name] = _pad(weight, 1, ACTIVATION_GROUP).astype("<f2")
        elif weight.ndim == 2:
            packed[name], packed[f"{layer}.scale"] = (_pack_int8 if bits == 8 else _pack_int4)(weight.T)
        else:
            packed[name] = np.pad(weight, (0, -len(weight) % (ACTIVATION_GROUP if is_norm(layer) else ROWS)))
    return {
        name: Tensor(dtype, shape, np.ascontiguousarray(packed[name]).data.cast("B"))
        for name, (dtype, shape) in shapes.items()
    }


def _floats(tensor: Tensor) -> FloatArray:
    if tensor.dtype == "BF16":  # the upper half of a float
        bits = np.frombuffer(tensor.data, "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).reshape(tensor.shape)
    return np.frombuffer(tensor.data, _DTYPES[tensor.dtype]).reshape(tensor.shape).astype(np.float32)


def _pad(weight: FloatArray, rows: int, columns: int) -> FloatArray:
    return np.pad(weight, [(0, padded(n, m) - n) for n, m in zip(weight.shape, (rows, columns), strict=True)])


def _pack_int8(weight: FloatArray) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """(N, K) -> (N/16, K/4, 16, 4) and (N)."""
    weight = _pad(weight, ROWS, ACTIVATION_GROUP)
    scale = np.abs(weight).max(1) / np.float32(127)
    whole = (np.rint(weight * _inverse(scale)[:, None]) + INT8_OFFSET).astype(np.uint8)
    return whole.reshape(-1, ROWS, weight.shape[1] // COLUMNS, COLUMNS).transpose(0, 2, 1, 3), scale


def _pack_int4(weight: FloatArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """(N, K) -> (N/16, K/8, 16, 4) and (N/16, K/32, 16)."""
    weight = _pad(weight, ROWS, ACTIVATION_GROUP)
    rows, columns = weight.shape
    groups = weight.reshape(-1, INT4_GROUP)
    scale = _best_scales(groups)
    whole = (_rounded(groups, scale) + INT4_OFFSET).astype(np.uint8)
    blocks = whole.reshape(-1, ROWS, columns // 8, 2, COLUMNS)  # (N/16, 16, K/8, low or high, 4)
    halves = (blocks[:, :, :, 0] | blocks[:, :, :, 1] << 4).astype(np.uint8)
    return halves.transpose(0, 2, 1, 3), scale.reshape(rows // ROWS, ROWS, -1).transpose(0, 2, 1)


def _best_scales(groups: FloatArray) -> npt.NDArray[np.float16]:
    """For each group (G, 32) the scale with the least squared error, measured as it will be stored."""
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(1, keepdims=True), axis=1)[:, 0]
    best = np.zeros(len(groups), np.float16)
    least = np.full(len(groups), np.inf, np.float32)
    for share in _SHARES:
        for candidate in (share * extreme / -8, share * extreme / 7):
            scale = candidate.astype(np.float16)
            error = ((_rounded(groups, scale) * scale[:, None].astype(np.float32) - groups) ** 2).sum(1)
            better = error < least
            best[better], least[better] = scale[better], error[better]
    return best


def _rounded(groups: FloatArray, scale: npt.NDArray[np.float16]) -> FloatArray:
    return np.asarray(np.clip(np.rint(groups * _inverse(scale)[:, None]), -8, 7))


def _inverse(scale: npt.NDArray[np.floating]) -> FloatArray:
    """1 / scale, and 0 for what is all zeros."""
    wide = scale.astype(np.float32)
    return np.divide(1, wide, out=np.zeros_like(wide), where=wide != 0)
