"""What a bulk run takes: ranges, invocations, minutes and dollars, by the limits that the code holds itself to.

Prices are AWS's list prices of us-east-1, as `lifecycle plan` has them. What an environment writes in a second is an
assumption, and the largest one: `make bench-bulk` measures it.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from handler.work.answering import PART_LINES, WRITE_SECONDS
from handler.work.bulk.limits import range_bytes
from lifecycle.planning.prices import read_prices

TIMEOUT_SECONDS: Final = 300  # the worker's, in template.yaml
START_SECONDS: Final = 2.0  # a cold start; a warm one costs nothing

# Of a child: its start, and for each turn a task and a choice; at the end what it returns.
_TRANSITIONS: Final = 2
_TRANSITIONS_OF_A_TURN: Final = 2

# Of a range: answers, errors and the record of both are written; the record, the kept answers and the input are read.
_PUTS: Final = 3
_GETS: Final = 5


@dataclass(frozen=True, slots=True)
class Job:
    """A file, and who works on it.

    Attributes:
        lines: requests in the file.
        line_bytes: bytes of a line, on average.
        tokens: tokens written for each.
        tokens_per_second: what an environment writes.
        memory_mb: memory of an environment, by which it is billed.
    """

    lines: int
    line_bytes: int = 250
    tokens: int = 64
    tokens_per_second: float = 600.0
    memory_mb: int = 3008


@dataclass(frozen=True, slots=True)
class Estimate:
    """What it takes.

    Attributes:
        ranges: children of the map.
        range_seconds: what one of them takes, cold.
        turns: invocations of one.
        dollars: the whole, by what is paid for.
    """

    ranges: int
    range_seconds: float
    turns: int
    dollars: dict[str, float]

    def minutes(self, concurrency: int) -> float:
        """How long the run takes with so many ranges at once."""
        return ceil(self.ranges / concurrency) * self.range_seconds / 60


def estimate(job: Job) -> Estimate:
    """Do the sums.

    Raises:
        InvalidRequestError: the file is too large for one run.
    """
    size = job.lines * job.line_bytes
    ranges = ceil(size / range_bytes(size))
    seconds = job.lines / ranges * job.tokens / job.tokens_per_second
    turns = ceil(seconds / (TIMEOUT_SECONDS - WRITE_SECONDS - START_SECONDS))
    range_seconds = seconds + turns * START_SECONDS
    transitions = ranges * (_TRANSITIONS + turns * _TRANSITIONS_OF_A_TURN)
    puts = ceil(job.lines / PART_LINES) + ranges * _PUTS
    prices = read_prices()
    gb_seconds = ranges * range_seconds * job.memory_mb / 1024
    dollars = {
        "Lambda": gb_seconds * prices["lambda_gb_second"] + ranges * turns * prices["lambda_request"],
        "Step Functions": transitions * prices["step_functions_transition"],
        "S3": puts * prices["s3_put"] + ranges * turns * _GETS * prices["s3_get"],
    }
    return Estimate(ranges, range_seconds, turns, dollars)
