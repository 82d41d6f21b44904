"""Has the kernel read what is about to be imported, many files at once, while the interpreter imports one by one.

In an environment that has just been made nothing of the image is in memory, and an import waits for each of its
hundreds of files, and for each part of a shared library that it touches. So the folders in which most of them lie are
named here, in the order in which they are needed. What is read in vain does no harm, what is not there is passed over.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

_BYTECODE: Final = "__pycache__"

# Below the folder that packages are installed in.
PACKAGES: Final = (
    f"botocore/{_BYTECODE}",
    "numpy/_core", "numpy.libs",
    *(f"{package}/{_BYTECODE}" for package in ("numpy", "numpy/_core", "numpy/lib", "numpy/linalg")),
    "tokenizers", "pydantic_core",
    *(f"{package}/{_BYTECODE}" for package in ("pydantic", "pydantic/_internal")),
    *(f"{package}/{_BYTECODE}" for package in ("fastapi", "fastapi/openapi", "fastapi/dependencies")),
    *(f"{package}/{_BYTECODE}" for package in ("starlette", "starlette/middleware", "anyio", "anyio/_core")),
)  # fmt: skip

# Below the standard library, and below this package.
STANDARD: Final = (f"asyncio/{_BYTECODE}",)
OURS: Final = tuple(f"{package}/{_BYTECODE}" for package in ("inference", "api", "events"))

_HERE: Final = os.path.dirname(__file__)  # noqa: PTH120 - pathlib is slow

# Bytecode and shared libraries, some of which have a version behind.
_KINDS: Final = (".pyc", ".so")


def read_ahead() -> None:
    """Begin, where there is a way to ask for it; returns at once."""
    if sys.platform == "linux":
        threading.Thread(target=_ask, name="read ahead", daemon=True).start()


def files_ahead() -> Iterator[str]:
    """The files that are asked for, in order."""
    packages = next((path for path in sys.path if os.path.isdir(f"{path}/numpy")), "")  # noqa: PTH112
    for root, folders in ((packages, PACKAGES), (os.path.dirname(os.__file__), STANDARD), (_HERE, OURS)):  # noqa: PTH120
        for folder in folders:
            with suppress(OSError), os.scandir(f"{root}/{folder}") as entries:
                yield from (entry.path for entry in entries if any(kind in entry.name for kind in _KINDS))


def _ask() -> None:
    for path in files_ahead():
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)
