"""A container that decodes what it has together; prompts are read one after the other, and the rest waits for them.

Between two events all sequences get their tokens at one pace, that of a step with so many of them; so a request costs
two events, however many tokens it has. This is processor sharing, with the capacity that the batch's size gives.
"""

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf

from lifecycle.planning.traffic import Request


class Times:
    """When each request got its first token, and its last; `inf` where it has not.

    Attributes:
        first: seconds, by the request's index.
        last: likewise.
    """

    def __init__(self, requests: int) -> None:
        self.first = [inf] * requests
        self.last = [inf] * requests


class Batch:
    """The sequences of one container."""

    def __init__(self, steps: Sequence[float], prefill: float, times: Times, now: float = 0.0) -> None:
        """It is empty.

        Args:
            steps: seconds of a step by the batch's size; the last is the largest there is room for.
            prefill: tokens a second that it reads.
            times: where it notes when tokens come.
            now: when it begins.
        """
        self._steps, self._room, self._prefill, self._times = steps, len(steps) - 1, prefill, times
        self._now = now
        self._pace = 0.0  # tokens that a sequence would have been given that was here from the beginning
        self._decoding: list[tuple[float, int]] = []  # a heap: the pace at which a sequence ends, its index
        self._waiting: deque[tuple[int, Request]] = deque()
        self._reading: tuple[float, int, int] | None = None  # when it is read, its index, tokens to write

    @property
    def in_flight(self) -> int:
        """Requests that it has."""
        return len(self._decoding) + len(self._waiting) + (self._reading is not None)

    def add(self, index: int, request: Request) -> None:
        """Take a request, at the time to which it was advanced."""
        self._waiting.append((index, request))
        self._read_next()

    def advance(self, to: float) -> list[int]:
        """Go on to a time; the indices of the requests that ended until then, in that order."""
        ended: list[int] = []
        while True:
            if self._reading:
                end, index, output = self._reading
                if end > to:
                    break
                self._now, self._reading = end, None
                self._times.first[index] = end
                if output == 1:
                    self._end(index, ended)
                else:
                    heappush(self._decoding, (self._pace + output - 1, index))
            elif self._decoding:
                step = self._steps[len(self._decoding)]
                pace, index = self._decoding[0]
                end = self._now + (pace - self._pace) * step
                if end > to:
                    self._pace += (to - self._now) / step
                    break
                self._now, self._pace = end, pace
                heappop(self._decoding)
                self._end(index, ended)
            else:
                break
            self._read_next()
        if to != inf:
            self._now = to
        return ended

    def _end(self, index: int, ended: list[int]) -> None:
        self._times.last[index] = self._now
        ended.append(index)

    def _read_next(self) -> None:
        if self._waiting and not self._reading and len(self._decoding) < self._room:
            index, request = self._waiting.popleft()
            self._reading = (self._now + request.prompt / self._prefill, index, request.output)
