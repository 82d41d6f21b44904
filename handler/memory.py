"""How much memory models take, and whether more of them fit."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from handler.registry.manifest import Manifest
from handler.settings import Settings

# What a process takes beside its models: 100 MB (`make bench-sizes`), and room for requests that are under way.
PROCESS_BYTES: Final = 300_000_000

_WIDENED: Final = ("F16", "BF16")

# These run on a GPU where there is one, and have models and caches in its memory.
_ENGINES_OF_GPUS: Final = ("transformers", "continuous")


def gpu_bytes() -> int:
    """The memory of the GPU that torch would use, 0 where it sees none."""
    import torch  # noqa: PLC0415 - by engines that import it anyway

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a process.

    Attributes:
        total: bytes in all.
        kv_cache: bytes of each model's keys and values.
        unpacks: whether packed weights are unpacked to 32 bits, as the engines in torch want them.
    """

    total: int
    kv_cache: int
    unpacks: bool = False

    @classmethod
    def of(
        cls, settings: Settings, environment: Mapping[str, str], gpu_bytes: Callable[[], int] = gpu_bytes
    ) -> "Memory":
        """The memory of this process: what the settings say, or the function has, or the GPU, or this machine."""
        function_mb = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        if settings.memory_mb:
            total = settings.memory_mb * 1_000_000
        elif function_mb.isdecimal():
            total = int(function_mb) * 1024 * 1024  # Lambda's megabytes
        elif settings.engine in _ENGINES_OF_GPUS and settings.device != "cpu" and (bytes_there := gpu_bytes()):
            total = bytes_there
        else:
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(total, settings.kv_cache_mb * 1_000_000, unpacks=settings.engine not in ("auto", "native"))

    def fits(self, models: Iterable[Manifest]) -> bool:
        """Whether these models fit into it together: their files, which are used where they lie, and their caches."""
        return PROCESS_BYTES + sum(self._bytes_of(model) + self.kv_cache for model in models) <= self.total

    def _bytes_of(self, model: Manifest) -> int:
        """What a model takes while it is loaded: weights that do not have 32 bits may get them, beside the file."""
        size = sum(file.size for file in model.files)
        if model.layout is not None and self.unpacks:
            return size + 4 * model.architecture.parameters
        return 3 * size if model.dtype in _WIDENED else size
