"""What the kernel is asked for before it is imported: all that a start imports, by a process that leaves nothing."""

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import wait_until

ENVIRONMENT = os.environ | {
    "MODELS_BUCKET": "models",
    "MODEL_NAME": "gpt2",
    "AUTH_MODE": "iam",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
}

IMPORTS = """
import sys
import handler.main
print(*(module.__cached__ for module in list(sys.modules.values()) if getattr(module, "__cached__", None)), sep="\\n")
"""

READS = """
import os, threading
from handler.readahead import read_ahead
read_ahead()
[thread.join() for thread in threading.enumerate() if thread.name == "read ahead"]
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child is left")
"""


def python(*arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, check=True, text=True, env=ENVIRONMENT | variables
    )
    assert done.stderr == ""
    return done.stdout


def test_the_list_holds_all_that_a_start_imports_in_order(tmp_path: Path) -> None:
    listed = tmp_path / "list"
    python("-m", "handler.readahead_list", READ_AHEAD=str(listed))

    paths = listed.read_text().split("\n")
    assert len(paths) == len(set(paths))
    assert all(map(os.path.isfile, paths))
    imported = {line for line in python("-c", IMPORTS).splitlines() if line.startswith("/")}  # the rest is the log's
    # The other interpreter was started in another way.
    assert {path for path in imported - set(paths) if "/runpy" not in path} == set()
    names = ["handler/__pycache__/fetching", "/libssl", "numpy/_core/_multiarray_umath", "libnative.so"]
    places = [next(i for i, path in enumerate(paths) if name in path) for name in names]
    assert places == sorted(places)


def test_what_is_listed_is_read_and_what_is_not_there_passed_over(tmp_path: Path) -> None:
    listed, file = tmp_path / "list", tmp_path / "file"
    file.write_bytes(bytes(100_000))
    with file.open("rb") as descriptor:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # what lies in a tmpfs stays there
    listed.write_text(f"{tmp_path / 'none'}\n{file}\n")

    assert python("-c", READS, READ_AHEAD=str(listed)) == "no child is left\n"
    wait_until(lambda: is_in_memory(file))


@pytest.mark.parametrize("listed", ["", "/nowhere/list"])
def test_without_a_list_nothing_is_read(listed: str) -> None:
    assert python("-c", READS, READ_AHEAD=listed) == "no child is left\n"


def is_in_memory(file: Path) -> bool:
    """Whether the page cache has a file's first page; mincore(2) asks without reading it."""
    with file.open("r+b") as descriptor, mmap.mmap(descriptor.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE) as pages:
        first, resident = ctypes.c_char.from_buffer(pages), ctypes.c_ubyte()
        assert ctypes.CDLL(None).mincore(ctypes.byref(first), ctypes.c_size_t(1), ctypes.byref(resident)) == 0
        del first  # or the map could not be closed
        return bool(resident.value & 1)
