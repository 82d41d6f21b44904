"""Requests against a function, a GPU service, or both: who answers each, and when.

A discrete-event simulation: time goes from arrival to arrival, and between two of them everything goes on that does
not depend on the next. What the network takes, between client and AWS and within it, is left out, as is what Lambda
takes to place an environment; of a cold start it knows what was measured of the process.
"""

import random
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from lifecycle.planning.batch import Times
from lifecycle.planning.costs import Usage
from lifecycle.planning.fleet import Acquired, Fleet
from lifecycle.planning.gpu_service import GpuService, Scaling
from lifecycle.planning.speeds import FunctionSpeed, GpuSpeed
from lifecycle.planning.traffic import Traffic

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Function:
    """The function.

    Attributes:
        speed: of an environment.
        keep_warm: seconds after which an unused environment is gone.
        most: requests at once beyond which one is refused; None for no bound.
        restore: seconds to the first token of an environment that starts from a snapshot; None without snapshots.
    """

    speed: FunctionSpeed
    keep_warm: float = 600.0
    most: int | None = None
    restore: float | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU service: how fast a container is, and how many there are when."""

    speed: GpuSpeed
    scaling: Scaling


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the requests.

    Attributes:
        first_token: seconds to the first token, of each request that was answered.
        answer: seconds to the last one.
        cold: the share of the requests that met a cold start.
        refused: the share that was refused.
        on_gpu: the share that the GPU service answered.
        most_environments: environments of the function busy at once.
        most_containers: containers of the GPU service at once.
        usage: what is paid for.
    """

    first_token: Seconds
    answer: Seconds
    cold: float
    refused: float
    on_gpu: float
    most_environments: int
    most_containers: int
    usage: Usage


def simulate(traffic: Traffic, function: Function | None, gpu: Gpu | None, seed: int = 0) -> Outcome:
    """Play the traffic once.

    With both, the function is the front: it forwards what the GPU service takes, and its environment waits, which is
    billed, until the answer is whole; it answers the rest itself.
    """
    run = _Run(traffic, function, gpu, seed)
    for index in range(len(traffic.requests)):
        run.arrive(index)
    return run.outcome()


class _Run:
    """A simulation under way."""

    def __init__(self, traffic: Traffic, function: Function | None, gpu: Gpu | None, seed: int) -> None:
        self._traffic, self._function = traffic, function
        self._times = Times(len(traffic.requests))
        self._late = [0.0] * len(traffic.requests)  # what a cold front adds before it forwards
        self._fleet = Fleet(function.keep_warm, function.most) if function else None
        self._service = GpuService(gpu.speed, gpu.scaling, self._times) if gpu else None
        self._dice = random.Random(seed)
        self._invocations = self._starts = self._forwarded = 0
        self._function_seconds = 0.0

    def arrive(self, index: int) -> None:
        """A request comes."""
        request = self._traffic.requests[index]
        if self._service:
            self._ended(self._service.advance(request.at))
            self._service.call()
        met = self._fleet.acquire(request.at) if self._fleet else None
        if met is Acquired.REFUSED:
            return
        self._invocations += met is not None
        self._starts += met is Acquired.COLD
        if self._service and self._service.offer(request.at, index, request):
            self._forwarded += 1
            if self._function and met is Acquired.COLD:
                self._late[index] = self._function.speed.front_start
        elif self._function and self._fleet:
            self._compute(index, self._function, self._fleet, cold=met is Acquired.COLD)

    def outcome(self) -> Outcome:
        """What came of it, once the last request has come."""
        if self._service:
            self._ended(self._service.finish(self._traffic.seconds))
        arrivals = np.array([request.at for request in self._traffic.requests])
        answered = np.array(self._times.last) < inf
        requests = len(arrivals)
        return Outcome(
            first_token=(np.add(self._times.first, self._late) - arrivals)[answered],
            answer=(np.add(self._times.last, self._late) - arrivals)[answered],
            cold=self._starts / requests,
            refused=1 - float(answered.mean()),
            on_gpu=self._forwarded / requests,
            most_environments=self._fleet.most_busy if self._fleet else 0,
            most_containers=self._service.most_containers if self._service else 0,
            usage=Usage(
                seconds=self._traffic.seconds,
                requests=requests,
                tokens=sum(one.output for one, done in zip(self._traffic.requests, answered, strict=True) if done),
                invocations=self._invocations,
                function_seconds=self._function_seconds,
                starts=self._starts,
                gpu_seconds=self._service.seconds if self._service else 0.0,
                forwarded=self._forwarded,
            ),
        )

    def _compute(self, index: int, function: Function, fleet: Fleet, *, cold: bool) -> None:
        """Answer a request in its environment; a start ends with a first token."""
        request, speed = self._traffic.requests[index], function.speed
        start = 0.0
        if cold:
            least, usual, most = speed.start
            start = self._dice.triangular(least, most, usual) if function.restore is None else function.restore
        first = start + request.prompt / speed.prefill + (0.0 if cold else 1 / speed.decode)
        whole = first + (request.output - 1) / speed.decode
        self._times.first[index], self._times.last[index] = request.at + first, request.at + whole
        self._function_seconds += whole - (start if function.restore is not None else 0.0)  # restoring is not billed
        fleet.release(request.at + whole)

    def _ended(self, indices: list[int]) -> None:
        """Fronts whose answers are whole are free again."""
        if self._fleet:
            for index in indices:
                end = self._times.last[index] + self._late[index]
                self._function_seconds += end - self._traffic.requests[index].at
                self._fleet.release(end)
