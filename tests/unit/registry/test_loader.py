"""The memory that models are loaded into."""

import mmap
from pathlib import Path

import numpy as np

from handler.registry.loader import buffer_of


def test_large_pages_are_asked_for_where_there_are_some() -> None:
    size = 8 * 1024 * 1024
    buffer = buffer_of(size)
    address = np.frombuffer(buffer, np.uint8).ctypes.data
    assert (len(buffer), address % mmap.PAGESIZE) == (size, 0)

    mappings = Path("/proc/self/smaps").read_text().split("VmFlags:")
    (mapping,) = (index for index, text in enumerate(mappings) if f"\n{address:x}-" in text)
    assert " rw-p " in mappings[mapping]  # only private memory has them
    assert "hg" in mappings[mapping + 1].splitlines()[0].split()  # MADV_HUGEPAGE
