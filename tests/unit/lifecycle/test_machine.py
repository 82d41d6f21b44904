import os
import platform
from pathlib import Path

from lifecycle.machine import describe_machine

CPUINFO = """processor\t: 0
model name\t: Fast Processor
cpu family\t: 25
model\t\t: 17
flags\t\t: fpu avx2 avx512f sse4_2 avx512_vnni

processor\t: 1
model name\t: Fast Processor
cpu family\t: 25
model\t\t: 17
flags\t\t: fpu avx2 avx512f sse4_2 avx512_vnni
"""


def test_describes_the_machine(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    (tmp_path / "meminfo").write_text("MemTotal:       16777216 kB\nMemFree:  1 kB\n")
    assert describe_machine(tmp_path) == (
        f"Fast Processor family 25 model 17, {os.cpu_count()} cores, avx2 avx512f avx512_vnni, 16 GiB, "
        f"{platform.system()} {platform.release()}"
    )


def test_describes_a_machine_that_says_less_of_itself(tmp_path: Path) -> None:
    assert describe_machine(tmp_path) == (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    )


def test_describes_this_machine() -> None:
    assert "\n" not in describe_machine()
    assert platform.release() in describe_machine()
