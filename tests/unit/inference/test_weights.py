"""The safetensors reader, held against the safetensors library and against every kind of damage."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from handler.errors import CorruptModelError
from handler.inference.weights import read_tensors


def file(header: object, data: bytes = b"") -> memoryview:
    """A safetensors file with this header, sound or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview(len(text).to_bytes(8, "little") + text + data)


def entry(**changes: Any) -> Mapping[str, Any]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes


def test_reads_what_the_safetensors_library_writes() -> None:
    arrays: dict[str, npt.NDArray[Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([1.5, -2.0], dtype=np.float16),
        "scalar": np.array(7, dtype=np.int64),
        "empty": np.empty((0, 4), dtype=np.float32),
        "packed": np.arange(5, dtype=np.uint8),
    }
    buffer = memoryview(save(arrays, metadata={"format": "pt"}))

    tensors, metadata = read_tensors(buffer)

    assert metadata == {"format": "pt"}
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("F16", (2,)),
        "scalar": ("I64", ()),
        "empty": ("F32", (0, 4)),
        "packed": ("U8", (5,)),
    }
    assert {name: bytes(tensor.data) for name, tensor in tensors.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


def test_tensors_are_views_of_the_file() -> None:
    buffer = bytearray(save({"a": np.zeros(1, dtype=np.uint8)}))
    tensors, _ = read_tensors(memoryview(buffer))
    buffer[-1] = 42
    assert tensors["a"].data[0] == 42


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        (memoryview(b"1234567"), "at least 8 bytes, given 7"),
        (memoryview((9).to_bytes(8, "little") + b"{}"), "claims 9 bytes, but the file has 2 left"),
        (memoryview(b"\xff" * 16), "claims 18446744073709551615 bytes, but the file has 8 left"),
        (file(b"{nonsense"), "not JSON"),
        (file(b"\xff\xfe"), "not JSON"),
        (file(b"[" * 100_000), "not JSON"),
        (file([1]), "must be a JSON object"),
        (file({"__metadata__": {"format": 1}}), "__metadata__ must map strings to strings"),
        (file(b'{"a": 1, "a": 2}'), "'a' is described twice"),
        (file({"a": 1}), "tensor 'a' needs exactly dtype, shape and data_offsets"),
        (file({"a": {"dtype": "F32"}}), "tensor 'a' needs exactly"),
        (file({"a": entry(dtype="F31")}), "tensor 'a' has the unknown dtype 'F31'"),
        (file({"a": entry(dtype=["F32"])}), "tensor 'a' has the unknown dtype"),
        (file({"a": entry(shape=[2, -3])}), "tensor 'a' has the shape [2, -3]"),
        (file({"a": entry(shape=[2, True])}), "tensor 'a' has the shape [2, True]"),
        (file({"a": entry(shape=6)}), "tensor 'a' has the shape 6"),
        (file({"a": entry(data_offsets=[0, 24.0])}), "tensor 'a' has the data_offsets"),
        (file({"a": entry(data_offsets=[0])}), "tensor 'a' needs two data_offsets"),
        (file({"a": entry()}, bytes(23)), "tensor 'a' ends at byte 24, but the data has only 23 bytes"),
        (file({"a": entry()}, bytes(25)), "end at byte 24, but the data has 25 bytes"),
        (file({"a": entry(data_offsets=[0, 20])}, bytes(20)), "takes 24 bytes, given offsets 0 to 20"),
        (file({"a": entry(data_offsets=[24, 0])}, bytes(24)), "tensor 'a' must begin at byte 0, given 24"),
        (file({"a": entry(data_offsets=[4, 28])}, bytes(28)), "tensor 'a' must begin at byte 0, given 4"),
        (
            file({"a": entry(), "b": entry(data_offsets=[12, 36])}, bytes(36)),
            "tensor 'b' must begin at byte 24, given 12",
        ),
        (file({"a": entry(shape=[2**62, 2**62])}, bytes(24)), "tensor 'a' of F32"),
    ],
)
def test_damage_is_named(buffer: memoryview, message: str) -> None:
    with pytest.raises(CorruptModelError) as caught:
        read_tensors(buffer)
    assert message in caught.value.message


@given(st.binary(max_size=64), st.integers(0, 200), st.integers(0, 255))
def test_no_bytes_raise_anything_else(garbage: bytes, position: int, value: int) -> None:
    """Neither random bytes nor a sound file with one byte changed get past the checks as something they are not."""
    sound = bytearray(save({"a": np.arange(6, dtype=np.float32), "b": np.zeros(3, dtype=np.uint8)}))
    sound[position % len(sound)] = value
    for buffer in (memoryview(garbage), memoryview(sound)):
        try:
            tensors, _ = read_tensors(buffer)
        except CorruptModelError:
            continue
        assert sum(len(tensor.data) for tensor in tensors.values()) <= len(buffer)
