"""At how many requests a day a GPU becomes the cheaper target, in a steady state and without any simulation.

Traffic keeps its shape and is scaled. Every hour is taken as if it went on for ever at its rate: as many containers as
its requests in flight ask for (Little's law), no cold starts, no sleepy minutes. What scaling and starts add is the
simulation's to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf, log10
from typing import Final

from lifecycle.planning.costs import Deployment, Usage, monthly
from lifecycle.planning.gpu_service import TICK
from lifecycle.planning.prices import Prices
from lifecycle.planning.simulate import Function, Gpu
from lifecycle.planning.traffic import HOUR, Traffic

LEAST_A_DAY: Final = 1.0
MOST_A_DAY: Final = 1e9
_STEPS_OF_A_DECADE: Final = 20
_HALVINGS: Final = 30
_FURTHER: Final = 100  # containers beyond twice those it takes without a goal, after which none is looked for


@dataclass(frozen=True, slots=True)
class Steady:
    """The GPU service at one rate.

    Attributes:
        containers: how many it takes.
        answer: seconds of an answer, on average.
    """

    containers: int
    answer: float


class SteadyState:
    """What targets cost, and how long answers take, at any scale of some traffic."""

    def __init__(self, traffic: Traffic, function: Function, gpu: Gpu, prices: Prices, goal: float = inf) -> None:
        """Nothing has been reckoned yet.

        Args:
            traffic: its shape, and the lengths of its requests.
            function: the function.
            gpu: the GPU service; its `most` containers do not bind.
            prices: list prices.
            goal: seconds that an answer of the GPU service may take on average; fewer are decoded together then.
        """
        self._rates, self._per_day = traffic.rates, traffic.per_day
        self._prompt, self._output = traffic.mean_prompt, traffic.mean_output
        self._function, self._gpu, self._prices, self._goal = function, gpu, prices, goal

    @cached_property
    def function_answer(self) -> float:
        """Seconds of an answer of the function's, warm, on average."""
        return self._function.speed.seconds(self._prompt, self._output)

    @cached_property
    def gpu_answer(self) -> float:
        """Seconds of an answer of the GPU service's that is decoded alone, on average: the least it can take."""
        speed = self._gpu.speed
        return self._prompt / speed.prefill + max(self._output - 1, 0.0) * speed.steps(1)[1]

    def service(self, rate: float) -> Steady | None:
        """The GPU service at so many requests a second, with the fewest containers that do; None if none do.

        A container that reads prompts for a share u of its time decodes in the rest: with b sequences a token of each
        takes step(b) / (1 - u) seconds, and it answers b requests in the seconds of one answer.
        """
        speed, most = self._gpu.speed, self._gpu.scaling.in_flight
        reading, written = self._prompt / speed.prefill, max(self._output - 1, 0.0)
        steps = speed.steps(most)
        # Whatever a container does takes this much of its time for a request, if its batch is as large as it may be.
        share = reading + min(written * steps[batch] / batch for batch in range(1, most + 1))
        least = max(1, ceil(rate * share))
        for containers in range(least, 2 * least + _FURTHER):
            free = 1 - rate / containers * reading
            for batch in range(1, most + 1):
                answer = reading + written * steps[batch] / free if free > 0 else inf
                if answer > self._goal:
                    break
                if rate / containers * answer <= batch:
                    return Steady(containers, answer)
        return None

    def dollars(self, target: str, per_day: float, deployments: Mapping[str, Deployment]) -> float:
        """Dollars a month of a target at so many requests a day; infinite where it cannot reach the goal."""
        rates = [rate * per_day / self._per_day for rate in self._rates]
        uses = {"lambda": self._function_hour, "gpu": self._gpu_hour, "both": self._tandem_hour}
        hours = [uses[target](rate) for rate in rates]
        if None in hours:
            return inf
        names = ("requests", "invocations", "function_seconds", "gpu_seconds", "forwarded")
        totals = {name: sum(getattr(hour, name) for hour in hours) for name in names}
        usage = Usage(seconds=HOUR * len(rates), **totals)
        return sum(monthly(usage, deployments[target], self._prices).values())

    def _function_hour(self, rate: float) -> Usage:
        requests = rate * HOUR
        return Usage(HOUR, requests, invocations=requests, function_seconds=requests * self.function_answer)

    def _gpu_hour(self, rate: float) -> Usage | None:
        requests, found = rate * HOUR, self.service(rate)
        if found is None:
            return None
        containers = max(found.containers, self._gpu.scaling.least, 1)
        return Usage(HOUR, requests, gpu_seconds=containers * HOUR, forwarded=requests)

    def _tandem_hour(self, rate: float) -> Usage | None:
        """Asleep below the rate that wakes it; above, the front's environments wait for every answer."""
        if rate * TICK < self._gpu.scaling.wake_requests:
            return self._function_hour(rate)
        requests, found = rate * HOUR, self.service(rate)
        if found is None:
            return None
        waited = requests * found.answer
        seconds = found.containers * HOUR
        return Usage(
            HOUR, requests, invocations=requests, function_seconds=waited, gpu_seconds=seconds, forwarded=requests
        )


def crossing(difference: Callable[[float], float]) -> float | None:
    """The number of requests a day from which on a difference of costs stays at 0 or below; None if there is none.

    Containers come whole and services wake, so that costs jump and may cross more than once: the last change of sign
    is looked for in small steps, and then closed in on by halves.
    """
    decades = round(log10(MOST_A_DAY / LEAST_A_DAY))
    steps = [LEAST_A_DAY * 10 ** (step / _STEPS_OF_A_DECADE) for step in range(decades * _STEPS_OF_A_DECADE + 1)]
    above = [step for step, per_day in enumerate(steps) if difference(per_day) > 0]
    if not above:
        return LEAST_A_DAY
    if above[-1] == len(steps) - 1:
        return None
    low, high = steps[above[-1]], steps[above[-1] + 1]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if difference(middle) <= 0 else (middle, high)
    return high
