"""The first step: cut the input into ranges that end at line ends, without reading it.

At every multiple of the ranges' size a few kilobytes are read, to where the line there ends. A file of ten million
lines takes ten thousand such reads, several at a time: seconds.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Event
from typing import TYPE_CHECKING, Final

from handler.errors import InvalidRequestError, NoSuchObjectError
from handler.work.bulk.limits import range_bytes
from handler.work.bulk.runs import READERS, Range, Run
from handler.work.lines import LARGEST_LINE

if TYPE_CHECKING:
    from handler.kept.storage import Storage

# What is read first to find the end of a line; then as much again as was read before.
_LOOK: Final = 2**13


def split(storage: "Storage", source: str) -> tuple[Run, int]:
    """Cut an input into ranges, and keep them as the run's plan; one that was cut before stays as it is.

    Args:
        storage: the results bucket.
        source: the input's key.

    Returns:
        The run, and the number of its ranges.

    Raises:
        NoSuchObjectError: there is no such object, or it was replaced meanwhile.
        InvalidRequestError: it is empty or too large, or one of its lines is too long.
    """
    found = storage.describe(source)
    if found is None:
        raise NoSuchObjectError("`input`: there is no such object in the results bucket.", param="input")
    run = Run(storage, source, found.etag)
    plan = run.plan()
    if plan is None:
        plan = cut(run, found.size, range_bytes(found.size))
        run.keep_plan(plan)
    return run, len(plan)


def cut(run: Run, size: int, step: int) -> list[Range]:
    """Ranges of about `step` bytes each that cover the input, in order."""
    failed = Event()

    def line_end(offset: int) -> int:
        if failed.is_set():  # a line is too long, and the others need not be looked for
            return size
        try:
            return _line_end(run, size, offset)
        except Exception:
            failed.set()
            raise

    with ThreadPoolExecutor(READERS, "look") as pool:
        bounds = sorted({0, *pool.map(line_end, range(step, size, step)), size})
    return [Range(first=first, end=end) for first, end in pairwise(bounds)]


def _line_end(run: Run, size: int, offset: int) -> int:
    """The first byte at or behind `offset` with which a line begins; the input's size if none does."""
    # The byte before may be the line end.
    start = position = offset - 1
    while position < size:
        if position - start > LARGEST_LINE:
            raise InvalidRequestError(
                f"`input`: a line may have at most {LARGEST_LINE} bytes; the one at byte {start} has more.",
                param="input",
            )
        window = run.read(position, min(size, position + max(_LOOK, position - start)))
        found = window.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(window)
    return size
