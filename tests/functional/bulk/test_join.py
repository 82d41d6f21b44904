"""Objects joined into files by multipart uploads: byte for byte, whatever their sizes, and whoever goes on."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from handler.errors import NoSuchObjectError, StorageUnavailableError
from handler.kept.multipart import Multipart
from handler.work.bulk.join import WRITE_SECONDS, Piece, cut, join
from handler.work.bulk.limits import JOINED_PART
from handler.work.bulk.runs import Range, Record, Run
from tests.functional.bulk.place import Place

MIB = 2**20


def run_of(place: Place, sizes: Sequence[int], *, planned: int | None = None) -> tuple[Run, bytes]:
    """A run whose ranges are done, with outputs of these sizes; and the outputs, one behind the other."""
    run = place.put("the input")
    count = planned or len(sizes)
    run.keep_plan([Range(first=first, end=first + 1) for first in range(count)])
    outputs = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    for first, output in enumerate(outputs):
        keep(run, first, output)
    return run, b"".join(outputs)


def keep(run: Run, first: int, output: bytes) -> None:
    key = f"{run.part_folder(first)}output-1.jsonl"
    run.storage.create(key, output)
    run.keep_record(
        Record(
            first=first,
            completed=first + 1,
            failed=1,
            output=key if output else None,
            output_bytes=len(output),
            errors=None,
            errors_bytes=0,
        )
    )


def requests_made(place: Place) -> list[str]:
    """The names of S3's operations from here on."""
    made: list[str] = []
    place.storage.client.meta.events.register("before-call.s3", lambda model, **_: made.append(model.name))
    return made


def test_pieces_make_parts_of_one_size() -> None:
    assert list(cut([("a", 3), ("b", 10), ("c", 0), ("d", 4)], 5)) == [
        [Piece("a", 0, 3), Piece("b", 0, 2)],
        [Piece("b", 2, 7)],
        [Piece("b", 7, 10), Piece("d", 0, 2)],
        [Piece("d", 2, 4)],
    ]
    assert list(cut([], 5)) == []


def test_small_objects_go_through_memory_and_large_ones_do_not(place: Place) -> None:
    run, expected = run_of(place, [3 * MIB, 0, 20 * MIB, 7 * MIB, 11])
    made = requests_made(place)
    assert join(run, None)
    parts = -(-len(expected) // JOINED_PART)
    assert (made.count("UploadPartCopy"), made.count("UploadPart")) == (1, parts - 1)

    folder = f"bulk/runs/{run.id}/joined/00005-of-00005"
    assert place.storage.read(f"{folder}/output.jsonl") == expected
    # A second time it is there.
    made.clear()
    assert join(run, None)
    assert {"CreateMultipartUpload", "UploadPart", "UploadPartCopy"}.isdisjoint(made)
    assert place.join(run) == {
        "finished": True,
        "run": run.id,
        "bucket": "results",
        "output": f"{folder}/output.jsonl",
        "errors": None,
        "completed": 15,
        "failed": 5,
        "ranges_missing": 0,
        "missing": [],
    }


def test_nothing_answered_makes_no_file(place: Place) -> None:
    run, _ = run_of(place, [0])
    assert (place.join(run)["output"], place.join(run)["completed"]) == (None, 1)


def test_what_is_joined_when_time_is_up_is_not_joined_again(place: Place) -> None:
    run, expected = run_of(place, [9 * MIB, 9 * MIB, 9 * MIB])
    assert join(run, time.time() + WRITE_SECONDS) is None
    # Another worker has made two parts before it died.
    upload = Multipart(place.storage, *target_and_id(run, 3))
    upload.put(1, expected[:JOINED_PART])
    upload.put(3, expected[2 * JOINED_PART : 3 * JOINED_PART])
    made = requests_made(place)
    joined = join(run, None)
    assert joined is not None
    assert joined.output is not None
    assert place.storage.read(joined.output) == expected
    assert made.count("UploadPart") + made.count("UploadPartCopy") == 2


def target_and_id(run: Run, ranges: int) -> tuple[str, str]:
    target = f"{run.folder}joined/{ranges:05d}-of-{ranges:05d}/output.jsonl"
    note = run.storage.read(f"{target}.upload")
    assert note is not None
    return target, json.loads(note)["upload_id"]


def test_an_upload_that_was_tidied_away_is_begun_anew(place: Place) -> None:
    run, expected = run_of(place, [10, 20])
    assert join(run, time.time() + WRITE_SECONDS) is None
    target, upload_id = target_and_id(run, 2)
    place.storage.client.abort_multipart_upload(Bucket="results", Key=target, UploadId=upload_id)
    assert place.storage.read(place.join(run)["output"]) == expected


def test_two_at_once_make_one_file(place: Place) -> None:
    run, expected = run_of(place, [9 * MIB, 9 * MIB, 5])

    def join_as_the_state_machine_does(_: int) -> Any:
        for _ in range(10):
            # The slower one may find its upload ended by the faster one, which it is told of as of any failure.
            with suppress(StorageUnavailableError):
                if (answer := place.join(run))["finished"]:
                    return answer
        return None

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(join_as_the_state_machine_does, range(2))
    assert first == second
    assert place.storage.read(first["output"]) == expected


def test_ranges_without_a_result_are_named_and_come_in_the_next_file(place: Place) -> None:
    run, expected = run_of(place, [10, 20], planned=3)
    first = place.join(run)
    assert (first["ranges_missing"], first["missing"]) == (1, [{"first": 2, "end": 3}])
    assert first["output"].endswith("/joined/00002-of-00003/output.jsonl")
    keep(run, 2, b"late")
    second = place.join(run)
    assert (second["ranges_missing"], second["missing"]) == (0, [])
    assert [place.storage.read(each["output"]) for each in (first, second)] == [expected, expected + b"late"]


def test_what_was_never_split_cannot_be_joined(place: Place) -> None:
    with pytest.raises(NoSuchObjectError, match="it has not been split yet"):
        place.join(place.put("the input"))
