"""The arithmetic of bulk: what fits the limits of Lambda, S3 and Step Functions, and what is refused.

A child of the map takes a range of the input: large enough that starting an invocation costs little beside it, small
enough that its lines and answers fit the function's memory many times over. `docs/bulk.md` does the sums.
"""

from typing import Final

from handler.errors import InvalidRequestError
from handler.kept.multipart import MOST_PARTS, SMALLEST_PART

# A range has about so many bytes: a thousand short prompts, which are minutes of work.
RANGE_BYTES: Final = 2**18

# No range has more, before the line that crosses its end.
LARGEST_RANGE: Final = 2**22

# Ranges, and with that children of the map: as many as Step Functions runs at once.
MOST_RANGES: Final = 10_000

LARGEST_INPUT: Final = LARGEST_RANGE * MOST_RANGES

# Parts of a joined file: several times S3's least size, because each is a request, and several fit the memory.
JOINED_PART: Final = 2**23
LARGEST_JOINED_PART: Final = 2**26
LARGEST_OUTPUT: Final = LARGEST_JOINED_PART * MOST_PARTS

# Step Functions' own: bytes of what one state hands to the next, and events of one execution's history.
PAYLOAD_BYTES: Final = 2**18
HISTORY_EVENTS: Final = 25_000

# Of a child's history, for each time it hands its range to the function and asks whether it is done: a task is
# entered, scheduled, started, succeeded and exited, a choice entered and exited.
EVENTS_OF_A_TURN: Final = 7


def range_bytes(size: int) -> int:
    """How many bytes the ranges of an input should have.

    Args:
        size: of the input, in bytes.

    Raises:
        InvalidRequestError: it is empty, or larger than can be split.
    """
    if size == 0:
        raise InvalidRequestError("`input`: the file is empty.", param="input")
    if size > LARGEST_INPUT:
        raise InvalidRequestError(
            f"`input`: a file may have at most {LARGEST_INPUT} bytes; given: {size}.", param="input"
        )
    return max(RANGE_BYTES, -(-size // MOST_RANGES))


def joined_part_bytes(size: int) -> int:
    """How many bytes the parts of a joined file should have, all but the last.

    Args:
        size: of the whole, in bytes.

    Raises:
        InvalidRequestError: it is more than can be joined; the ranges' own files hold the answers all the same.
    """
    if size > LARGEST_OUTPUT:
        raise InvalidRequestError(f"A joined file may have at most {LARGEST_OUTPUT} bytes; given: {size}.")
    return max(JOINED_PART, SMALLEST_PART, -(-size // MOST_PARTS))
