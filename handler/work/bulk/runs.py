"""A run: one input, with this content, and where in the results bucket lies what is done of it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from handler.errors import NoSuchObjectError

if TYPE_CHECKING:
    from handler.kept.storage import Storage

# Where inputs are put, and below which runs are kept.
INPUTS: Final = "bulk/inputs/"
RUNS: Final = "bulk/runs/"

READERS: Final = 8


class Range(BaseModel):
    """Bytes of the input, from the beginning of a line to the end of one: `end` is behind the last."""

    first: int
    end: int


class Record(BaseModel):
    """What came of a range: written once, when all of it is answered.

    Attributes:
        first: the range's first byte.
        completed: requests answered.
        failed: lines with an error.
        output: the object with the answers, if there are any.
        output_bytes: its size.
        errors: the object with the errors, if there are any.
        errors_bytes: its size.
    """

    first: int
    completed: int
    failed: int
    output: str | None
    output_bytes: int
    errors: str | None
    errors_bytes: int


class Run:
    """Where everything of a run lies. Its methods raise StorageUnavailableError when S3 does not do as it is asked."""

    def __init__(self, storage: "Storage", source: str, etag: str) -> None:
        """The run of an input.

        Args:
            storage: the results bucket.
            source: the input's key.
            etag: what tells its content from another.
        """
        self.storage = storage
        self.source = source
        self.etag = etag
        self.id = sha256(f"{source}\n{etag}".encode()).hexdigest()[:32]
        self.folder = f"{RUNS}{self.id}/"

    @property
    def plan_key(self) -> str:
        """Where the ranges are listed, as the map reads them."""
        return f"{self.folder}plan.json"

    def plan(self) -> list[Range] | None:
        """The ranges, in order; None before the input was split."""
        data = self.storage.read(self.plan_key)
        return None if data is None else [Range.model_validate(each) for each in json.loads(data)]

    def keep_plan(self, ranges: list[Range]) -> None:
        """Keep the ranges; if there are some, those stay."""
        self.storage.create(self.plan_key, json.dumps([each.model_dump() for each in ranges]).encode())

    def part_folder(self, first: int) -> str:
        """Where lies what is done of the range that begins with this byte."""
        return f"{self.folder}parts/{first:015d}/"

    def record(self, first: int) -> Record | None:
        """What came of a range, or None if it is not done."""
        data = self.storage.read(self._record_key(first))
        return None if data is None else Record.model_validate_json(data)

    def keep_record(self, record: Record) -> Record:
        """Keep what came of a range, and return what is kept: if somebody was faster, theirs."""
        if self.storage.create(self._record_key(record.first), record.model_dump_json().encode()):
            return record
        return self.record(record.first) or record

    def records(self) -> Iterator[Record]:
        """What came of all ranges that are done, in the order of the input."""
        firsts = [int(key.rpartition("/")[2].removesuffix(".json")) for key in self.storage.keys(self._records)]
        with ThreadPoolExecutor(READERS, "record") as pool:
            yield from (record for record in pool.map(self.record, firsts) if record is not None)

    def read(self, first: int, end: int) -> bytes:
        """Bytes of the input; `end` is behind the last.

        Raises:
            NoSuchObjectError: it is not there any more, or it is another by now.
        """
        data = self.storage.read_range(self.source, first, end, self.etag)
        if data is None:
            raise NoSuchObjectError("`input`: it has been removed or replaced since the run began.", param="input")
        return data

    @property
    def _records(self) -> str:
        return f"{self.folder}records/"

    def _record_key(self, first: int) -> str:
        return f"{self._records}{first:015d}.json"
