"""Safetensors files without loading them: tensors are views of the mapped file, and are written one after the other.

The safetensors library writes a file only from tensors that are all in memory; a checkpoint of several gigabytes goes
through here in the memory of its largest tensor, in whatever dtype it has, and without torch.
"""

import json
import mmap
from collections.abc import Mapping
from pathlib import Path

from handler.errors import CorruptModelError
from handler.inference.weights import LENGTH_BYTES, METADATA, Tensor, read_tensors

# The first tensor starts at a multiple of this, a page; the format leaves room for spaces after the header.
_ALIGNMENT = 4096


def map_file(path: Path) -> memoryview:
    """A file's bytes, read when they are looked at.

    Raises:
        CorruptModelError: the file is missing or empty; the message names it.
    """
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise CorruptModelError(f"{path} is missing") from error
    except ValueError as error:  # nothing can be mapped of an empty file
        raise CorruptModelError(f"{path} is empty") from error


def map_tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file, views of the mapped file, and the layout they are packed in, if they are.

    Raises:
        CorruptModelError: the file is missing or damaged; the message names it.
    """
    mapped = map_file(path)
    try:
        tensors, metadata = read_tensors(mapped)
    except CorruptModelError as error:
        raise CorruptModelError(f"{path}: {error.message}") from error
    return tensors, metadata.get("layout")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], layout: str | None = None) -> None:
    """Write tensors to a safetensors file, in the order given.

    The same tensors in the same order always make the same bytes, and so the same version of a model.

    Args:
        path: the file to write.
        tensors: the tensors by their names.
        layout: the layout they are packed in, if they are.
    """
    # transformers refuses a file that does not say which framework's layout its tensors have.
    metadata = {"format": "pt"} | ({"layout": layout} if layout else {})
    header: dict[str, object] = {METADATA: metadata}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(LENGTH_BYTES + len(encoded)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(LENGTH_BYTES, "little"))
        file.write(encoded)
        for tensor in tensors.values():
            file.write(tensor.data)
