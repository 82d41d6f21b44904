"""Read tensors out of a safetensors file that lies in memory, without copying a byte and without torch.

The format (https://huggingface.co/docs/safetensors/index#format): eight bytes with the length of the header, little
endian; the header, a JSON object from tensor names to dtype, shape and the offsets of the first byte and of the one
after the last, counted from the end of the header; then the data, without holes.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from handler.errors import CorruptModelError

LENGTH_BYTES: Final = 8
METADATA: Final = "__metadata__"
DTYPE_BYTES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as the file holds it.

    Attributes:
        dtype: the element type by its safetensors name, such as "F32".
        shape: the size of each dimension, outermost first.
        data: the elements in row-major order, little endian: a view of the file's bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def read_tensors(buffer: memoryview) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, as views of its bytes, and its metadata.

    Args:
        buffer: the whole file; it must outlive the tensors.

    Raises:
        CorruptModelError: the header does not describe exactly the bytes that follow it; the message names the tensor.
    """
    buffer = buffer.cast("B")
    header, data = _split(buffer)
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CorruptModelError(f"safetensors: {METADATA} must map strings to strings, given {metadata!r:.100}")
    entries = {name: _entry(name, value) for name, value in header.items()}
    end = 0
    tensors = {}
    for name, (dtype, shape, start, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
        size = math.prod(shape) * DTYPE_BYTES[dtype]
        if start != end:
            raise CorruptModelError(f"safetensors: tensor {name!r} must begin at byte {end}, given {start}")
        if stop - start != size:
            raise CorruptModelError(
                f"safetensors: tensor {name!r} of {dtype} and shape {list(shape)} takes {size} bytes, "
                f"given offsets {start} to {stop}"
            )
        if stop > len(data):
            raise CorruptModelError(
                f"safetensors: tensor {name!r} ends at byte {stop}, but the data has only {len(data)} bytes"
            )
        end = stop
        tensors[name] = Tensor(dtype, shape, data[start:stop])
    if end != len(data):
        raise CorruptModelError(f"safetensors: the tensors end at byte {end}, but the data has {len(data)} bytes")
    return tensors, metadata


def _split(buffer: memoryview) -> tuple[dict[str, Any], memoryview]:
    """The parsed header and the bytes after it."""
    if len(buffer) < LENGTH_BYTES:
        raise CorruptModelError(f"safetensors: a file has at least {LENGTH_BYTES} bytes, given {len(buffer)}")
    length = int.from_bytes(buffer[:LENGTH_BYTES], "little")
    if length > len(buffer) - LENGTH_BYTES:
        raise CorruptModelError(
            f"safetensors: the header claims {length} bytes, but the file has {len(buffer) - LENGTH_BYTES} left"
        )
    try:
        header = json.loads(bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + length]), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CorruptModelError(f"safetensors: the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise CorruptModelError(f"safetensors: the header must be a JSON object, given {header!r:.100}")
    return header, buffer[LENGTH_BYTES + length :]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict; json itself would let the last of two tensors of one name win in silence."""
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise CorruptModelError(f"safetensors: {next(n for n in names if names.count(n) > 1)!r} is described twice")
    return members


def _entry(name: str, value: object) -> tuple[str, tuple[int, ...], int, int]:
    """One tensor's dtype, shape and offsets, each of the right type."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise CorruptModelError(
            f"safetensors: tensor {name!r} needs exactly dtype, shape and data_offsets, given {value!r:.100}"
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise CorruptModelError(f"safetensors: tensor {name!r} has the unknown dtype {dtype!r:.100}")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
            raise CorruptModelError(
                f"safetensors: tensor {name!r} has the {what} {numbers!r:.100}, not a list of sizes"
            )
    if len(offsets) != 2:
        raise CorruptModelError(f"safetensors: tensor {name!r} needs two data_offsets, given {offsets!r:.100}")
    return dtype, tuple(shape), offsets[0], offsets[1]
