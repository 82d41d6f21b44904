"""The loader alone beside curl: `python -m bench.cold.loading BUCKET MODEL hashed|unhashed` loads once, and tells.

It prints the seconds, as a number. Without hashes it is the reading alone, which is what curl does.
"""

import sys
import time

import handler.registry.chunks
from handler.registry.loader import ModelSource


class _NoHash:
    """In place of hashlib: every hash is the one that is wanted."""

    class _Any:
        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

    def sha256(self, _data: object) -> "_NoHash":
        return self

    def hexdigest(self) -> "_NoHash._Any":
        return self._Any()


if __name__ == "__main__":
    if sys.argv[3] == "unhashed":
        setattr(handler.registry.chunks, "hashlib", _NoHash())  # noqa: B010 - it is not the module's to give
    started = time.perf_counter()
    ModelSource(sys.argv[1], sys.argv[2], "live").load()
    sys.stdout.write(f"{time.perf_counter() - started}\n")
