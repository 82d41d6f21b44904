"""The arithmetic: whatever is taken fits the limits of AWS, and what does not is refused by its number."""

import json

import pytest

from handler.errors import InvalidRequestError
from handler.events.bulk import MOST_MISSING
from handler.kept.multipart import MOST_PARTS, SMALLEST_PART
from handler.work.answering import PART_LINES
from handler.work.bulk import limits
from handler.work.bulk.limits import (
    EVENTS_OF_A_TURN,
    HISTORY_EVENTS,
    LARGEST_INPUT,
    LARGEST_OUTPUT,
    LARGEST_RANGE,
    MOST_RANGES,
    PAYLOAD_BYTES,
    RANGE_BYTES,
    joined_part_bytes,
    range_bytes,
)
from handler.work.bulk.runs import Range
from handler.work.lines import LARGEST_LINE


@pytest.mark.parametrize("size", [1, RANGE_BYTES, 2_500_000_000, LARGEST_INPUT - 1, LARGEST_INPUT])
def test_ranges_are_no_more_and_no_larger_than_allowed(size: int) -> None:
    step = range_bytes(size)
    assert RANGE_BYTES <= step <= LARGEST_RANGE
    assert -(-size // step) <= MOST_RANGES


@pytest.mark.parametrize("size", [1, 10**9, LARGEST_OUTPUT - 1, LARGEST_OUTPUT])
def test_parts_of_a_joined_file_are_no_more_and_no_smaller_than_s3_allows(size: int) -> None:
    part = joined_part_bytes(size)
    assert SMALLEST_PART <= part <= limits.LARGEST_JOINED_PART
    assert -(-size // part) <= MOST_PARTS


@pytest.mark.parametrize(
    ("check", "size", "message"),
    [
        (range_bytes, 0, "`input`: the file is empty."),
        (range_bytes, LARGEST_INPUT + 1, "`input`: a file may have at most 41943040000 bytes; given: 41943040001."),
        (
            joined_part_bytes,
            LARGEST_OUTPUT + 1,
            "A joined file may have at most 671088640000 bytes; given: 671088640001.",
        ),
    ],
)
def test_what_is_beyond_is_refused(check: object, size: int, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check(size)  # type: ignore[operator]
    assert caught.value.message.startswith(message)


def test_what_states_hand_on_fits_a_payload() -> None:
    """The longest keys, the largest numbers, and as many missing ranges as are named."""
    missing = [Range(first=LARGEST_INPUT, end=LARGEST_INPUT).model_dump()] * MOST_MISSING
    said = {"run": "0" * 32, "input": "\\u0000" * 1024, "output": "x" * 1024, "errors": "x" * 1024, "missing": missing}
    assert len(json.dumps(said)) < PAYLOAD_BYTES / 10


def test_a_range_of_ordinary_lines_fits_the_history_of_its_child() -> None:
    """At worst each turn answers one part more; ranges of an ordinary size have a hundredth of the turns allowed."""
    lines = LARGEST_RANGE // 100
    assert lines / PART_LINES * EVENTS_OF_A_TURN < HISTORY_EVENTS / 5
    # The line across its end may make a range longer, and by no more than it is read with.
    assert LARGEST_LINE < LARGEST_RANGE
