"""Tensors of a safetensors file as torch's, without a copy: what the engines in torch read their weights with."""

from typing import Final

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from handler.errors import UnsupportedModelError
from handler.inference.weights import Tensor

# numpy has no bfloat16, so its bits travel as integers until torch looks at them.
DTYPES: Final = {"F32": ("<f4", torch.float32), "F16": ("<f2", torch.float16), "BF16": ("<i2", torch.bfloat16)}


def as_torch(name: str, tensor: Tensor) -> torch.Tensor:
    """A tensor over the bytes of the file, which must outlive it.

    Raises:
        UnsupportedModelError: its type is not implemented; the message gives the name.
    """
    if tensor.dtype not in DTYPES:
        raise UnsupportedModelError(f"tensor {name!r} must be one of {', '.join(DTYPES)}, given {tensor.dtype}")
    carrier, dtype = DTYPES[tensor.dtype]
    # By way of DLPack, because torch's other ways into foreign memory object to memory that is read-only.
    return from_dlpack(np.frombuffer(tensor.data, carrier).reshape(tensor.shape)).view(dtype)
