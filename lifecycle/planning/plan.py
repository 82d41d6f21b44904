"""A plan: the targets simulated on the same traffic, what each costs, and where they cross. It is JSON throughout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

import numpy as np

from lifecycle.planning.costs import MONTH, Deployment, monthly
from lifecycle.planning.crossing import MOST_A_DAY, SteadyState, crossing
from lifecycle.planning.gpu_service import TICK
from lifecycle.planning.prices import NEEDED, Prices
from lifecycle.planning.simulate import Function, Gpu, Outcome, Seconds, simulate
from lifecycle.planning.traffic import HOUR, HOURS, Traffic

NAMES: Final = {"lambda": "Lambda", "gpu": "GPU", "both": "Lambda before GPU"}  # of the targets
PERCENTILES: Final = (50, 95, 99)
GOAL_PERCENTILE: Final = 95

_CURVE: Final = tuple(float(value) for value in np.geomspace(100, 1e8, 61))


@dataclass(frozen=True, slots=True)
class Question:
    """What is planned.

    Attributes:
        traffic: the requests.
        function: the function, alone or as the front.
        gpu: the GPU service. Alone, at least one container is always there; behind the front it sleeps when it may.
        deployment: what is paid for, with the instance's type.
        prices: list prices.
        goals: seconds within which 95 % of the answers should be whole.
        seed: of the simulation.
    """

    traffic: Traffic
    function: Function
    gpu: Gpu
    deployment: Deployment
    prices: Prices
    goals: Sequence[float] = ()
    seed: int = 0

    def gpu_for(self, target: str) -> Gpu | None:
        """The GPU service as a target has it, in the middle of traffic that has been like its first hour."""
        if target == "lambda":
            return None
        scaling = self.gpu.scaling
        rate = self.traffic.rates[0]
        service = None if target == "both" and rate * TICK < scaling.wake_requests else _steady(self).service(rate)
        begin = min(service.containers, scaling.most) if service else 0
        least = max(1, scaling.least) if target == "gpu" else 0
        return Gpu(self.gpu.speed, replace(scaling, least=least, begin=begin))

    def deployment_for(self, target: str) -> Deployment:
        """What is paid for in a target."""
        return replace(self.deployment, instance=None) if target == "lambda" else self.deployment


def make_plan(question: Question) -> dict[str, Any]:
    """Simulate, reckon, compare."""
    traffic = question.traffic
    deployments = {target: question.deployment_for(target) for target in NAMES}
    return {
        "traffic": {
            "requests_a_day": round(traffic.per_day, 1),
            "prompt_tokens": round(traffic.mean_prompt, 1),
            "output_tokens": round(traffic.mean_output, 1),
            "requests_a_second": list(traffic.rates),
            "simulated_requests": len(traffic.requests),
            "simulated_hours": round(traffic.seconds / HOUR, 2),
        },
        "notes": _notes(question),
        "targets": {target: _target(question, target) for target in NAMES},
        "crossings": [_crossing(question, goal, deployments) for goal in (None, *question.goals)],
        "curve": _curve(question, deployments),
    }


def sentences(crossings: Sequence[Mapping[str, Any]]) -> list[str]:
    """From where on a target with a GPU is cheaper, for people."""
    told = []
    for found in crossings:
        within = "" if found["goal"] is None else f", with answers in {found['goal']:g} s on average"
        for target, per_day in found["requests_a_day"].items():
            if found["goal"] is not None and found["gpu_answer"] > found["goal"]:
                says = f"out of reach, the GPU takes {found['gpu_answer']:.2f} s"
            elif found["goal"] is not None and found["lambda_answer"] > found["goal"]:
                says = f"needed at any traffic, for Lambda's own processors take {found['lambda_answer']:.2f} s"
            elif per_day is None:
                says = "never cheaper than Lambda alone"
            else:
                says = f"cheaper than Lambda alone from {per_day:,.0f} requests a day on"
            told.append(f"{NAMES[target]}{within}: {says}.")
    return told


def _target(question: Question, target: str) -> dict[str, Any]:
    function = None if target == "gpu" else question.function
    outcome = simulate(question.traffic, function, question.gpu_for(target), question.seed)
    dollars = monthly(outcome.usage, question.deployment_for(target), question.prices)
    total = sum(dollars.values())
    millions = outcome.usage.tokens / outcome.usage.seconds * MONTH / 1e6
    return {
        "dollars_a_month": round(total, 2),
        "dollars_a_million_tokens": round(total / millions, 4) if millions else None,
        "dollars": {name: round(value, 2) for name, value in dollars.items()},
        "first_token": _percentiles(outcome.first_token),
        "answer": _percentiles(outcome.answer),
        "answer_quantiles": [round(value, 4) for value in _quantiles(outcome.answer)],
        "first_token_quantiles": [round(value, 4) for value in _quantiles(outcome.first_token)],
        "cold_share": round(outcome.cold, 6),
        "refused_share": round(outcome.refused, 6),
        "gpu_share": round(outcome.on_gpu, 6),
        "most_environments": outcome.most_environments,
        "most_containers": outcome.most_containers,
        "meets": {f"{goal:g}": _meets(outcome, goal) for goal in question.goals},
    }


def _meets(outcome: Outcome, goal: float) -> bool:
    """Whether enough of all requests were answered whole in time; one that was refused was not."""
    in_time = float((outcome.answer <= goal).sum()) / outcome.usage.requests
    return in_time >= GOAL_PERCENTILE / 100


def _steady(question: Question, goal: float | None = None) -> SteadyState:
    goal = inf if goal is None else goal
    return SteadyState(question.traffic, question.function, question.gpu, question.prices, goal)


def _crossing(question: Question, goal: float | None, deployments: Mapping[str, Deployment]) -> dict[str, Any]:
    """From how many requests a day each target with a GPU is no dearer than the function."""
    steady = _steady(question, goal)
    found = {}
    for target in ("gpu", "both"):

        def dearer(per_day: float, target: str = target) -> float:
            return steady.dollars(target, per_day, deployments) - steady.dollars("lambda", per_day, deployments)

        per_day = crossing(dearer)
        found[target] = None if per_day is None else float(f"{per_day:.3g}")
    return {
        "goal": goal,
        "lambda_answer": round(steady.function_answer, 3),
        "gpu_answer": round(steady.gpu_answer, 3),
        "requests_a_day": found,
    }


def _curve(question: Question, deployments: Mapping[str, Deployment]) -> dict[str, Any]:
    """Costs over requests a day, in the steady state."""
    steady = _steady(question)
    dollars = {
        target: [round(steady.dollars(target, per_day, deployments), 2) for per_day in _CURVE] for target in NAMES
    }
    return {"requests_a_day": [round(value) for value in _CURVE], "dollars_a_month": dollars}


def _notes(question: Question) -> list[str]:
    """What whoever reads the figures has to know."""
    notes = []
    speed, scaling = question.gpu.speed, question.gpu.scaling
    size, rate = speed.decode[-1]
    notes.append(
        f"The GPU's speed is {f'that of {speed.machine}' if speed.machine else 'assumed, not measured'}: {rate:,.0f} "
        f"tokens a second written for {size} requests at once, {speed.prefill:,.0f} read. It is assumed "
        f"that {scaling.start_seconds:,.0f} s pass from an alarm to a container that answers."
    )
    if question.function.restore is not None:
        notes.append(f"The start from a snapshot is assumed, not measured: {question.function.restore:g} s.")
    if unverified := [name for name in NEEDED if name in question.prices.unverified]:
        notes.append(f"To be checked, for they are not from lists of AWS's: {', '.join(unverified)}.")
    if question.traffic.seconds < HOURS * HOUR:
        notes.append(
            f"{question.traffic.seconds / HOUR:.1f} hours of the traffic are simulated and stand for a month; starts "
            "and scaling weigh more in them."
        )
    notes.append(
        f"List prices of {question.prices.region}, without free tiers. Latency is without the network, and cold starts "
        "without the time Lambda takes to place an environment."
    )
    notes.append(
        f"Crossings are of a steady state, looked for up to {MOST_A_DAY:,.0f} requests a day at which nothing crosses."
    )
    return notes


def _percentiles(seconds: Seconds) -> dict[str, float | None]:
    if not len(seconds):
        return {f"p{percentile}": None for percentile in PERCENTILES}
    values = np.percentile(seconds, PERCENTILES)
    return {f"p{percentile}": round(float(value), 4) for percentile, value in zip(PERCENTILES, values, strict=True)}


def _quantiles(seconds: Seconds) -> list[float]:
    """The percentiles from 0 to 100, for a drawing."""
    return [float(value) for value in np.percentile(seconds, range(101))] if len(seconds) else []
