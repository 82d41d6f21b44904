"""The compiled kernels: `libnative.so`, built from `native/` by `make` and with the image, and its functions in C.

ctypes lets go of the interpreter's lock while a function runs, and binds whatever version of Python there is.
"""

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int, c_int32, c_size_t, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

PATH = Path(__file__).with_name("libnative.so")


class Shape(Structure):
    """`ModelShape` of native/engine.h."""

    _fields_: ClassVar = [
        *((name, c_int32) for name in ("layers", "heads", "width", "inner_width", "context", "vocabulary")),
        ("exact_gelu", c_int32),
        ("epsilon", c_float),
    ]


SIGNATURES = {
    "native_isa": (c_char_p, [c_char_p]),
    "native_slot_bytes": (c_size_t, [POINTER(Shape)]),
    "native_create": (c_void_p, [POINTER(Shape), c_int, POINTER(c_void_p), c_int, c_int, c_char_p]),
    "native_destroy": (None, [c_void_p]),
    "native_forward": (c_int, [c_void_p, c_void_p, c_void_p, c_int, c_void_p, c_int, c_void_p, c_size_t]),
    "native_copy": (None, [c_void_p, c_int, c_int, c_int]),
    "native_read_bandwidth": (c_double, [c_int, c_size_t, c_int]),
}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The library with its functions typed, loaded once.

    Raises:
        OSError: there is none, or this machine cannot load it.
    """
    loaded = ctypes.CDLL(str(PATH))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def read_bandwidth(threads: int, megabytes: int = 512, passes: int = 41) -> float:
    """Gigabytes (10^9 bytes) a second that so many threads read from memory together, the median of several passes."""
    bandwidth: float = library().native_read_bandwidth(threads, megabytes * 1_000_000, passes)
    if bandwidth < 0:
        raise MemoryError(f"{megabytes} MB cannot be had to read from")
    return bandwidth
