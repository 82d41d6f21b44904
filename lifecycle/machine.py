"""One line that says what machine figures were taken on."""

import os
import platform
from pathlib import Path
from typing import Final

# What matters to the kernels that are measured, from the plainest to the best.
_FLAGS: Final = ("avx2", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8")


def describe_machine(proc: Path = Path("/proc")) -> str:
    """Processor, cores, instruction sets, memory and kernel; away from Linux on x86, what Python knows of them.

    Args:
        proc: where the kernel says what it runs on.
    """
    info = _fields(proc / "cpuinfo") if (proc / "cpuinfo").exists() else {}
    if "flags" not in info:
        return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    flags = info["flags"].split()
    processor = f"{info['model name']} family {info['cpu family']} model {info['model']}"
    gibibytes = int(_fields(proc / "meminfo")["MemTotal"].split()[0]) / 2**20
    return (
        f"{processor}, {os.cpu_count()} cores, {' '.join(flag for flag in _FLAGS if flag in flags)}, "
        f"{gibibytes:.0f} GiB, {platform.system()} {platform.release()}"
    )


def _fields(file: Path) -> dict[str, str]:
    """The file's "name: value" lines; of the processors, the last one's."""
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return {name.strip(): value.strip() for name, colon, value in lines if colon}
