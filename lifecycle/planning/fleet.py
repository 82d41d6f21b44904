"""The environments of a function: one request at a time each, kept for a while, started when none is free."""

from collections import deque
from enum import Enum
from heapq import heappop, heappush


class Acquired(Enum):
    """What a request meets: an environment that is there, one that has to start, or the bound on how many there are."""

    WARM = "warm"
    COLD = "cold"
    REFUSED = "refused"


class Fleet:
    """All environments, simulated in the order of time.

    Of those that are free the one used last takes the request, as Lambda seems to choose; so the others can go.
    """

    def __init__(self, keep_warm: float, most: int | None = None) -> None:
        """No environment is there yet.

        Args:
            keep_warm: seconds after which an unused environment is gone.
            most: requests worked on at once beyond which one is refused; None for no bound.
        """
        self._keep_warm, self._most = keep_warm, most
        self._free: deque[float] = deque()  # since when, the longest first
        self._ends: list[float] = []  # when busy ones will be free, as far as it is known: a heap
        self.busy = 0
        self.most_busy = 0

    def acquire(self, now: float) -> Acquired:
        """Take an environment for a request that comes now."""
        while self._ends and self._ends[0] <= now:
            self._free.append(heappop(self._ends))
            self.busy -= 1
        while self._free and self._free[0] + self._keep_warm < now:
            self._free.popleft()
        if not self._free and self._most is not None and self.busy >= self._most:
            return Acquired.REFUSED
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        if self._free:
            self._free.pop()
            return Acquired.WARM
        return Acquired.COLD

    def release(self, at: float) -> None:
        """Say when an environment that was taken will be free again."""
        heappush(self._ends, at)
