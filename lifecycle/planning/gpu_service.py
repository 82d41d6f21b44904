"""The GPU service: containers behind a load balancer, woken, multiplied and put to sleep by alarms once a minute.

The rules are those of the stack: steps from none to one when the front is called often enough, to none when it was
quiet for long, and between one and the most by requests in flight. The alarm on waiting messages is left out: here come
requests that somebody waits for.
"""

from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from lifecycle.planning.batch import Batch, Times
from lifecycle.planning.speeds import GpuSpeed
from lifecycle.planning.traffic import Request

TICK: Final = 60.0  # seconds between two looks of an alarm


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many containers there are, and when.

    Attributes:
        least: containers that are always there; 0 lets the service sleep.
        most: containers at most, each on an instance of its own.
        in_flight: requests in flight in a container above which another one is started.
        room: requests in flight in a container beyond which one is refused.
        wake_requests: calls a minute that wake a sleeping service.
        start_seconds: from the alarm to a container that answers: instance, image, model.
        idle_minutes: how long it must have been quieter before containers are given up.
        begin: containers there at the beginning, if more than are always there: those of the traffic before.
    """

    least: int = 1
    most: int = 4
    in_flight: int = 32
    room: int = 64
    wake_requests: int = 60
    start_seconds: float = 300.0
    idle_minutes: int = 15
    begin: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Container:
    """A container, since when it is paid for, and from when it answers."""

    batch: Batch
    launched: float
    ready: float


class GpuService:
    """The containers, simulated in the order of time."""

    def __init__(self, speed: GpuSpeed, scaling: Scaling, times: Times) -> None:
        """As many containers as are there at the beginning answer already."""
        self._speed, self._scaling, self._times = speed, scaling, times
        self._steps = speed.steps(scaling.room)
        self._containers = [self._container(0.0, 0.0) for _ in range(max(scaling.least, scaling.begin))]
        self._leaving: list[_Container] = []
        self._next_tick = TICK
        self._calls = self._quiet_minutes = 0
        self._now = self._presence = 0.0  # what it came to, and requests in flight times seconds since the last look
        self.seconds = 0.0  # of instances that are gone
        self.most_containers = len(self._containers)

    def call(self) -> None:
        """Note that the front was called."""
        self._calls += 1

    def offer(self, now: float, index: int, request: Request) -> bool:
        """Give a request to the container that has the fewest; False if none is ready, or all are full."""
        ready = [container for container in self._containers if container.ready <= now]
        if not ready:
            return False
        container = min(ready, key=lambda one: one.batch.in_flight)
        if container.batch.in_flight >= self._scaling.room:
            return False
        container.batch.add(index, request)
        return True

    def advance(self, to: float) -> list[int]:
        """Go on to a time; the indices of the requests that ended until then."""
        ended: list[int] = []
        while self._next_tick <= to:
            ended += self._advance(self._next_tick)
            self._scale(self._next_tick)
            self._next_tick += TICK
        return ended + self._advance(to)

    @property
    def in_flight(self) -> int:
        """Requests that the containers have."""
        return sum(container.batch.in_flight for container in (*self._containers, *self._leaving))

    def finish(self, at: float) -> list[int]:
        """Go on to a time, answer what was accepted until then, and end; the indices of the requests that ended."""
        ended = self.advance(at)
        ended += [index for one in (*self._containers, *self._leaving) for index in one.batch.advance(inf)]
        self.seconds += sum(at - container.launched for container in (*self._containers, *self._leaving))
        self._containers, self._leaving = [], []
        return ended

    def _advance(self, to: float) -> list[int]:
        before = self.in_flight
        ended = [index for one in (*self._containers, *self._leaving) for index in one.batch.advance(to)]
        self._presence += (before + self.in_flight) / 2 * (to - self._now)
        self._now = to
        return ended

    def _scale(self, now: float) -> None:
        """What the alarms do, looking at the minute that ends now."""
        scaling, there = self._scaling, len(self._containers)
        in_flight = self._presence / TICK  # the minute's average, as the metric has it
        asleep = scaling.least == 0 and self._calls < scaling.wake_requests
        self._calls, self._presence = 0, 0.0
        wanted = 0 if asleep else max(1, ceil(in_flight / scaling.in_flight))
        wanted = min(max(wanted, scaling.least), scaling.most)
        self._quiet_minutes = self._quiet_minutes + 1 if wanted < there else 0
        if wanted > there:
            self._containers += [self._container(now, now + scaling.start_seconds) for _ in range(wanted - there)]
            self.most_containers = max(self.most_containers, wanted)
        elif self._quiet_minutes >= scaling.idle_minutes:
            self._leaving += self._containers[wanted:]
            del self._containers[wanted:]
            self._quiet_minutes = 0
        for container in [one for one in self._leaving if not one.batch.in_flight]:
            self._leaving.remove(container)
            self.seconds += now - container.launched

    def _container(self, launched: float, ready: float) -> _Container:
        return _Container(Batch(self._steps, self._speed.prefill, self._times, ready), launched, ready)
