"""The arithmetic of the native engine, in float64 and plain numpy: what its kernels are held against.

Quantizing is part of the arithmetic and is done here as it is done there: activations to 8 bits in groups of 64, keys
and values to float16. Everything else is exact but for float64's own rounding.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from handler.inference.config import ModelConfig

Array = npt.NDArray[np.float64]
GROUP = 64


def emulate(config: ModelConfig, weights: Mapping[str, npt.NDArray[np.float32]], tokens: Sequence[int]) -> Array:
    """The logits after every token, (T, V), of the unpacked weights by their canonical names."""
    w = {name: weight.astype(np.float64) for name, weight in weights.items()}
    x = w["wte.weight"][list(tokens)] + w["wpe.weight"][: len(tokens)]  # (T, C)
    for layer in range(config.layers):
        h = {name.split(".", 2)[2]: weight for name, weight in w.items() if name.startswith(f"h.{layer}.")}
        qkv = _linear(_normalized(x, h, "ln_1", config), h, "attn.c_attn")
        x = x + _linear(_attend(qkv, config), h, "attn.c_proj")
        hidden = _gelu(_linear(_normalized(x, h, "ln_2", config), h, "mlp.c_fc"), config)
        x = x + _linear(hidden, h, "mlp.c_proj")
    return _quantized(_normalized(x, w, "ln_f", config)) @ w["wte.weight"].T


def _quantized(x: Array) -> Array:
    """(T, K) -> (T, K): what is left of activations after 8 bits per value and a scale per group."""
    columns = x.shape[1]
    groups = np.pad(x, ((0, 0), (0, -columns % GROUP))).reshape(len(x), -1, GROUP)
    scales = np.abs(groups).max(2, keepdims=True) / 127
    kept = np.rint(np.divide(groups, scales, out=np.zeros_like(groups), where=scales > 0)) * scales
    return np.asarray(kept.reshape(len(x), -1)[:, :columns])


def _linear(x: Array, w: Mapping[str, Array], name: str) -> Array:
    return np.asarray(_quantized(x) @ w[f"{name}.weight"] + w[f"{name}.bias"])


def _normalized(x: Array, w: Mapping[str, Array], name: str, config: ModelConfig) -> Array:
    off = x - x.mean(1, keepdims=True)
    variance = (off**2).mean(1, keepdims=True)
    return np.asarray(off / np.sqrt(variance + config.layer_norm_epsilon) * w[f"{name}.weight"] + w[f"{name}.bias"])


def _attend(qkv: Array, config: ModelConfig) -> Array:
    """(T, 3C) -> (T, C), causally, with keys and values in the float16 of the cache."""
    t = len(qkv)
    queries, keys, values = qkv.reshape(t, 3, config.heads, config.head_size).transpose(1, 2, 0, 3)  # (H, T, D) each
    keys, values = (np.clip(x, -65504, 65504).astype(np.float16).astype(np.float64) for x in (keys, values))
    scores = queries @ keys.transpose(0, 2, 1) / math.sqrt(config.head_size)  # (H, T, T)
    scores[:, ~np.tri(t, dtype=bool)] = -np.inf
    weights = np.exp(scores - scores.max(2, keepdims=True))
    mixed = weights / weights.sum(2, keepdims=True) @ values  # (H, T, D)
    return np.asarray(mixed.transpose(1, 0, 2).reshape(t, -1))


def _gelu(x: Array, config: ModelConfig) -> Array:
    if config.activation == "gelu":
        return np.asarray(x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2)
    return np.asarray(x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2)
