"""A folder to make: complete when it is there, and not there until it is complete."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handler.errors import InvalidRequestError


def check_free(out: Path) -> None:
    """Make sure that nothing would be overwritten.

    Raises:
        InvalidRequestError: `out` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidRequestError(f"out: {out} exists and is not an empty folder", param="out")


@contextmanager
def complete_or_absent(out: Path) -> Iterator[Path]:
    """A folder to write to that takes the place of `out` at the end, or disappears when something goes wrong."""
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield new
        new.chmod(0o755)  # mkdtemp keeps it to its owner
        new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
