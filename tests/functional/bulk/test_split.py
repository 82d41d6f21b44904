"""An input cut into ranges: every line in one of them, and next to nothing read."""

import random
from typing import Any

import pytest

from handler.errors import InvalidRequestError, NoSuchObjectError
from handler.kept.storage import Storage
from handler.work.bulk.limits import RANGE_BYTES
from handler.work.bulk.runs import Range, Run
from handler.work.bulk.split import cut
from handler.work.lines import LARGEST_LINE
from lifecycle.local.cloud import RESULTS_BUCKET
from tests.functional.batch_place import requests
from tests.functional.bulk.place import NAME, Place


class FileStorage(Storage):
    """One object that lies in memory, and counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[int] = []

    def read_range(self, key: str, first: int, end: int, etag: str | None = None) -> bytes | None:
        self.reads.append(end - first)
        return self.data[first:end]


def ranges_of(data: bytes, step: int) -> tuple[list[Range], FileStorage]:
    storage = FileStorage(data)
    return cut(Run(storage, NAME, "e"), len(data), step), storage


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("last", [b"", b"torn"], ids=["whole", "torn last line"])
def test_every_line_lies_in_one_range(end: bytes, last: bytes) -> None:
    lengths = random.Random(7)
    lines = [b"x" * lengths.randrange(40) for _ in range(300)]
    data = b"".join(line + end for line in lines) + last
    for step in (1, 7, 64, 5000, 10**6):
        ranges, _ = ranges_of(data, step)
        parts = [data[each.first : each.end] for each in ranges]
        assert b"".join(parts) == data
        assert all(part.endswith(b"\n") for part in parts[:-1])
        assert all(len(part) <= step + 40 for part in parts)


def test_next_to_nothing_is_read() -> None:
    data = (b"x" * 249 + b"\n") * 40_000
    ranges, storage = ranges_of(data, RANGE_BYTES)
    assert len(ranges) == len(storage.reads) + 1 == 39
    assert sum(storage.reads) < len(data) / 30


def test_a_line_of_a_hundred_megabytes_is_refused_without_being_read() -> None:
    data = b'{"custom_id": "a"}\n' + b"x" * 100_000_000
    storage = FileStorage(data)
    with pytest.raises(InvalidRequestError) as caught:
        cut(Run(storage, NAME, "e"), len(data), RANGE_BYTES)
    assert caught.value.message.startswith(f"`input`: a line may have at most {LARGEST_LINE} bytes; the one at byte ")
    assert sum(storage.reads) < 40_000_000
    assert max(storage.reads) <= LARGEST_LINE


def test_a_step_splits_once_and_says_where(place: Place) -> None:
    data = requests(4000)
    run = place.put(data)
    answer = place.step("split", input=NAME)
    plan = run.plan()
    assert plan is not None
    assert answer == {
        "run": run.id,
        "bucket": RESULTS_BUCKET,
        "input": NAME,
        "etag": run.etag,
        "plan": f"bulk/runs/{run.id}/plan.json",
        "ranges": len(plan),
    }
    assert len(plan) == -(-len(data) // RANGE_BYTES) == 3
    assert place.step("split", input=NAME) == answer
    # Another content is another run.
    assert place.put(f"{data}\n").id != run.id


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({"input": "bulk/inputs/none"}, NoSuchObjectError, "`input`: there is no such object in the results bucket."),
        ({"input": "files/contents/a"}, InvalidRequestError, "`input` must be an object below bulk/inputs/ of the"),
        (
            {"input": ""},
            InvalidRequestError,
            "`input`: string should have at least 1 character",
        ),
        ({"input": NAME}, InvalidRequestError, "`input`: the file is empty."),
        ({"input": NAME, "colour": 1}, InvalidRequestError, "Unknown field: `colour`."),
    ],
)
def test_what_cannot_be_split_is_said(
    place: Place, event: dict[str, Any], error: type[InvalidRequestError], message: str
) -> None:
    place.put(b"")
    with pytest.raises(error) as caught:
        place.step("split", **event)
    assert caught.value.message.startswith(message)
