"""Packed weights: what is packed unpacks to nearly what it was, and what is not as it should be is refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.packed import check_packed, packed_tensors, unpack
from handler.inference.weights import Tensor, read_tensors
from lifecycle.packing import pack
from tests.models import config_json, random_checkpoint, unpacked_weights
from tests.models import packed_tensors as random_packed

LAYOUTS = ["packed-int8-v1", "packed-int4-v1"]
CONFIG = ModelConfig.from_json(config_json(n_embd=48, n_head=3, n_inner=100, vocab_size=77))


def plain(config: ModelConfig) -> dict[str, np.ndarray]:
    tensors, _ = read_tensors(memoryview(random_checkpoint(config)))
    return {name: np.frombuffer(t.data, np.float32).reshape(t.shape) for name, t in tensors.items()}


def tensor(array: np.ndarray) -> Tensor:
    return Tensor({"float32": "F32", "float16": "F16"}[str(array.dtype)], array.shape, array.data.cast("B"))


def test_the_form_of_eight_bits_is_the_documented_one() -> None:
    """One layer of 48 inputs, padded to 64, and 100 outputs, padded to 112."""
    tensors = packed_tensors(CONFIG, "packed-int8-v1")
    assert {name: tensors[f"h.0.mlp.c_fc.{name}"] for name in ("weight", "scale", "bias")} == {
        "weight": ("U8", (7, 16, 16, 4)),
        "scale": ("F32", (112,)),
        "bias": ("F32", (112,)),
    }
    assert tensors["wte.weight"] == ("U8", (5, 16, 16, 4))
    assert tensors["wpe.weight"] == ("F16", (64, 64))
    assert tensors["ln_f.weight"] == ("F32", (64,))


def test_the_form_of_four_bits_is_the_documented_one() -> None:
    tensors = packed_tensors(CONFIG, "packed-int4-v1")
    assert tensors["h.0.mlp.c_fc.weight"] == ("U8", (7, 8, 16, 4))
    assert tensors["h.0.mlp.c_fc.scale"] == ("F16", (7, 2, 16))
    assert tensors["wte.weight"] == ("U8", (5, 16, 16, 4))  # the head keeps its 8 bits


def test_every_packed_byte_is_where_the_layout_says() -> None:
    weights = plain(CONFIG)
    packed = pack(CONFIG, {name: tensor(array) for name, array in weights.items()}, "packed-int8-v1")
    blocks = np.frombuffer(packed["h.1.attn.c_proj.weight"].data, np.uint8).reshape(3, 16, 16, 4)
    scale = np.frombuffer(packed["h.1.attn.c_proj.scale"].data, np.float32)
    for row, column in [(0, 0), (17, 5), (47, 47), (31, 2)]:
        weight = weights["h.1.attn.c_proj.weight"][column, row]  # a checkpoint's are (in, out)
        assert blocks[row // 16, column // 4, row % 16, column % 4] == np.rint(weight / scale[row]) + 128
    assert (blocks[:, 12:] == 128).all()  # the padding from column 48 on weighs nothing


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unpacking_gives_back_the_weights_within_half_a_step(layout: str) -> None:
    weights = plain(CONFIG)
    packed = pack(CONFIG, {name: tensor(array) for name, array in weights.items()}, layout)
    for name, array in unpacked_weights(CONFIG, packed, layout).items():
        scales = packed.get(name.removesuffix("weight") + "scale")
        if name == "wpe.weight":
            step = 2**-10 * np.abs(array).max()  # float16 has eleven bits
        elif scales is None:
            step = np.float32(0)
        else:
            step = np.abs(np.frombuffer(scales.data, np.float32 if scales.dtype == "F32" else np.float16)).max()
        # Four bits may clip the extreme of a group by up to a step more, where that serves the others.
        assert np.abs(array - weights[name]).max() <= step * (0.51 if "int8" in layout else 2.6), name


def test_scales_of_four_bits_leave_less_error_than_the_largest_magnitude_does() -> None:
    weight = plain(CONFIG)["h.0.mlp.c_proj.weight"][:96].T  # (48, 96): three whole groups in every row
    groups = weight.reshape(-1, 32)
    naive = (np.abs(groups).max(1, keepdims=True) / 7).astype(np.float16).astype(np.float32)
    error = ((np.clip(np.rint(groups / naive), -8, 7) * naive - groups) ** 2).mean()
    packed = random_packed(CONFIG, "packed-int4-v1")
    ours = unpacked_weights(CONFIG, packed, "packed-int4-v1")["h.0.mlp.c_proj.weight"][:96].T
    assert ((ours - weight) ** 2).mean() < 0.8 * error


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_zero_stay_zero(layout: str) -> None:
    zeros = {name: tensor(np.zeros_like(array)) for name, array in plain(CONFIG).items()}
    packed = pack(CONFIG, zeros, layout)
    assert not any(array.any() for array in unpacked_weights(CONFIG, packed, layout).values())


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_checkpoint_of_sixteen_bits_packs_like_the_same_values_in_thirty_two(dtype: str) -> None:
    exact = {}
    short = {}
    for name, array in plain(CONFIG).items():
        if dtype == "F16":
            half = array.astype(np.float16)
            short[name], exact[name] = tensor(half), tensor(half.astype(np.float32))
        else:
            upper = (array.view(np.uint32) >> 16).astype(np.uint16)
            short[name] = Tensor("BF16", array.shape, upper.data.cast("B"))
            exact[name] = tensor((upper.astype(np.uint32) << 16).view(np.float32))
    one, other = (pack(CONFIG, tensors, "packed-int8-v1") for tensors in (short, exact))
    assert {name: bytes(t.data) for name, t in one.items()} == {name: bytes(t.data) for name, t in other.items()}


def test_a_layout_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnsupportedModelError, match="'packed-int2-v9'; known here: packed-int8-v1, packed-int4-v1"):
        unpack(CONFIG, {}, "packed-int2-v9")


def test_a_tensor_that_is_missing_wrong_or_too_many_is_named() -> None:
    good = random_packed(CONFIG, "packed-int8-v1")
    with pytest.raises(CorruptModelError, match=r"'h\.1\.ln_2\.bias' is missing"):
        check_packed(CONFIG, {k: v for k, v in good.items() if k != "h.1.ln_2.bias"}, "packed-int8-v1")
    wrong = good | {"wte.scale": replace(good["wte.scale"], shape=(16, 5))}
    with pytest.raises(CorruptModelError, match=r"'wte\.scale' must be F32 \[80\], given F32 \[16, 5\]"):
        check_packed(CONFIG, wrong, "packed-int8-v1")
    with pytest.raises(CorruptModelError, match="'extra' is no part of it"):
        check_packed(CONFIG, good | {"extra": good["wte.scale"]}, "packed-int8-v1")
    with pytest.raises(CorruptModelError, match="must be U8"):  # one layout's tensors under the other's name
        check_packed(CONFIG, good, "packed-int4-v1")
