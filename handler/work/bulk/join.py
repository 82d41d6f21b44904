"""The last step: join the ranges' objects into one file of answers and one of errors.

The file is cut into parts of one size. A part that lies within one object is copied inside S3; one that is made of
several small objects goes through memory. The upload remembers its parts, so that whoever comes next does those left.
"""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from handler.errors import NoSuchObjectError, StorageUnavailableError
from handler.kept.multipart import Multipart
from handler.telemetry import logger
from handler.work.bulk.limits import joined_part_bytes
from handler.work.bulk.runs import Range, Record, Run

if TYPE_CHECKING:
    from handler.kept.storage import Storage

# Parts in memory at once: together they have at most this many bytes.
_MEMORY_BYTES: Final = 2**28
_WRITERS: Final = 8

# The last part to be begun has so long to be done.
WRITE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an object; `end` is behind the last."""

    key: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of a run.

    Attributes:
        output: the file of answers, if there are any.
        errors: the file of errors, if there are any.
        completed: requests answered.
        failed: lines with an error.
        missing: the ranges that have no result; a second run does those.
    """

    output: str | None
    errors: str | None
    completed: int
    failed: int
    missing: list[Range]


def join(run: Run, deadline: float | None) -> Joined | None:
    """Join what there is, as far as there is time.

    Args:
        run: the run.
        deadline: when to have stopped, on the clock of `time.time()`.

    Returns:
        What came of the run; None if it is not all joined, and goes on where this ended.

    Raises:
        NoSuchObjectError: the input was never split.
    """
    plan = run.plan()
    if plan is None:
        raise NoSuchObjectError("`input`: it has not been split yet.", param="input")
    records = list(run.records())
    # More ranges may be done at another time, and none fewer: their number names what is joined.
    folder = f"{run.folder}joined/{len(records):05d}-of-{len(plan):05d}/"
    until = None if deadline is None else deadline - WRITE_SECONDS
    output, errors = f"{folder}output.jsonl", f"{folder}errors.jsonl"
    outputs = [(record.output, record.output_bytes) for record in records if record.output is not None]
    failures = [(record.errors, record.errors_bytes) for record in records if record.errors is not None]
    if not (_join(run.storage, outputs, output, until) and _join(run.storage, failures, errors, until)):
        return None
    joined = Joined(
        output=output if outputs else None,
        errors=errors if failures else None,
        completed=sum(record.completed for record in records),
        failed=sum(record.failed for record in records),
        missing=_missing(plan, records),
    )
    logger.info("run joined", run=run.id, completed=joined.completed, failed=joined.failed, missing=len(joined.missing))
    return joined


def cut(objects: Sequence[tuple[str, int]], size: int) -> Iterator[list[Piece]]:
    """What each part of `size` bytes (the last may have fewer) of some objects, one behind the other, is made of.

    Args:
        objects: keys and sizes in bytes.
        size: of a part.
    """
    pieces: list[Piece] = []
    room = size
    for key, length in objects:
        first = 0
        while first < length:
            end = min(length, first + room)
            pieces.append(Piece(key, first, end))
            room -= end - first
            first = end
            if room == 0:
                yield pieces
                pieces, room = [], size
    if pieces:
        yield pieces


def _join(storage: "Storage", objects: Sequence[tuple[str, int]], target: str, until: float | None) -> bool:
    """Join objects into one; whether it is done."""
    if not objects or storage.describe(target) is not None:
        return True
    size = joined_part_bytes(sum(length for _, length in objects))
    upload, etags = _upload(storage, target)
    if etags is None:
        return storage.describe(target) is not None
    parts = {number: pieces for number, pieces in enumerate(cut(objects, size), 1) if number not in etags}

    def make(number: int) -> str | None:
        return (
            None if until is not None and time.time() >= until else _make(storage, upload, size, number, parts[number])
        )

    with ThreadPoolExecutor(max(1, min(_WRITERS, _MEMORY_BYTES // size)), "join") as pool:
        made = dict(zip(parts, pool.map(make, parts), strict=True))
    etags |= {number: etag for number, etag in made.items() if etag is not None}
    if None in made.values():
        return False
    upload.complete(etags)
    return True


def _make(storage: "Storage", upload: Multipart, size: int, number: int, pieces: Sequence[Piece]) -> str:
    """Make one part, and return its ETag."""
    # S3 copies ranges of objects that are larger than a part must be; others, and the short last part, are read.
    if len(pieces) == 1 and pieces[0].end - pieces[0].first == size:
        return upload.copy(number, pieces[0].key, pieces[0].first, pieces[0].end)
    return upload.put(number, b"".join(map(partial(_read, storage), pieces)))


def _read(storage: "Storage", piece: Piece) -> bytes:
    data = storage.read_range(piece.key, piece.first, piece.end)
    if data is None:
        raise StorageUnavailableError("An object of the run is not there any more.")
    return data


def _upload(storage: "Storage", target: str) -> tuple[Multipart, dict[int, str] | None]:
    """The upload that makes an object, begun now or before, and its parts; None for parts if it has just ended."""
    key = f"{target}.upload"
    stored = storage.fetch(key)
    if stored is None:
        storage.create(key, json.dumps({"upload_id": Multipart.begin(storage, target)}).encode())
        stored = storage.fetch(key)
    if stored is None:
        raise StorageUnavailableError("An object of the run is not there any more.", retry_after=1)
    upload = Multipart(storage, target, json.loads(stored.data)["upload_id"])
    parts = upload.parts()
    if parts is None and storage.describe(target) is None:
        # It was abandoned, and the bucket has tidied it away: the next one.
        storage.replace(key, json.dumps({"upload_id": Multipart.begin(storage, target)}).encode(), stored.etag)
        return _upload(storage, target)
    return upload, parts


def _missing(plan: Sequence[Range], records: Sequence[Record]) -> list[Range]:
    done = {record.first for record in records}
    return [each for each in plan if each.first not in done]
