"""`lifecycle plan`: what a function, a GPU service and both together cost for given traffic, and how fast they are."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from handler.errors import InvalidRequestError

if TYPE_CHECKING:
    from lifecycle.planning.speeds import GpuSpeed
    from lifecycle.planning.traffic import Traffic


_MOST_TOKENS = 1_000_000  # as traffic.py has it


class Instance(StrEnum):
    """Instances with one GPU whose prices are known."""

    T4 = "g4dn.xlarge"
    A10G = "g5.xlarge"
    L4 = "g6.xlarge"


class Bits(StrEnum):
    """Bits of the function's weights."""

    EIGHT = "8"
    FOUR = "4"


class Capacity(StrEnum):
    """Who runs the instances."""

    MANAGED = "managed"
    GROUP = "group"


def plan(
    traffic: Annotated[
        Path | None,
        Argument(metavar="[TRAFFIC]", help="Description (.json) or trace (.jsonl, .csv) of the requests."),
    ] = None,
    *,
    requests_per_day: Annotated[float | None, Option(help="Requests a day, evenly, in place of TRAFFIC.")] = None,
    prompt_tokens: Annotated[
        int, Option(min=1, max=_MOST_TOKENS, help="Tokens of each prompt, with --requests-per-day.")
    ] = 100,
    output_tokens: Annotated[
        int, Option(min=1, max=_MOST_TOKENS, help="Tokens of each answer, with --requests-per-day.")
    ] = 80,
    goal: Annotated[
        list[float] | None, Option(help="Seconds within which 95 % of the answers should be whole. Repeatable.")
    ] = None,
    model: Annotated[str, Option(help="Model, as `make bench-sizes` has measured it.")] = "gpt2",
    bits: Annotated[Bits, Option(help="Bits of the function's weights.")] = Bits.EIGHT,
    memory: Annotated[int, Option(min=1024, max=10240, help="Megabytes of the function.")] = 3008,
    keep_warm: Annotated[float, Option(min=0, help="Minutes an unused environment stays; AWS does not say.")] = 10.0,
    max_concurrency: Annotated[int | None, Option(min=1, help="Environments at once; any number.")] = None,
    snapshot_start: Annotated[
        float | None, Option(min=0, help="Seconds to the first token after a SnapStart, if it is used.")
    ] = None,
    instance: Annotated[Instance, Option(help="Instance of the GPU service.")] = Instance.L4,
    spot: Annotated[bool, Option("--spot", help="Spot instances.")] = False,
    capacity: Annotated[
        Capacity, Option(help="Who runs the instances: ECS, for a fee, or a group of your own.")
    ] = Capacity.MANAGED,
    gpu_tokens_per_second: Annotated[
        float | None, Option(help="What a GPU writes with a full batch, in place of what was measured.")
    ] = None,
    gpu_start: Annotated[float, Option(min=0, help="Seconds from an alarm to a GPU container that answers.")] = 300.0,
    most_containers: Annotated[int, Option(min=1, help="GPU containers at most.")] = 4,
    prices: Annotated[Path | None, Option(help="File of prices, in place of us-east-1's list prices.")] = None,
    seed: Annotated[int, Option(help="Seed of the simulation.")] = 0,
    as_json: Annotated[bool, Option("--json", help="Print the plan as JSON.")] = False,
    out: Annotated[Path | None, Option(help="Page with the plan and drawings of it.")] = None,
) -> None:
    """Say what each target costs for some traffic, how fast it answers, and from where on a GPU is cheaper.

    Arrivals, environments, batches and scaling are simulated, with the speeds that the benchmarks measured.
    """
    from lifecycle.planning.costs import Deployment  # noqa: PLC0415
    from lifecycle.planning.gpu_service import Scaling  # noqa: PLC0415
    from lifecycle.planning.page import write_page  # noqa: PLC0415
    from lifecycle.planning.plan import Question, make_plan  # noqa: PLC0415
    from lifecycle.planning.prices import LIST_PRICES, read_prices  # noqa: PLC0415
    from lifecycle.planning.simulate import Function, Gpu  # noqa: PLC0415
    from lifecycle.planning.speeds import function_speed  # noqa: PLC0415

    for given in goal or ():
        _above_0("goal", given)
    speed = function_speed(model, bits=int(bits), memory_mb=memory)
    question = Question(
        traffic=_traffic(traffic, requests_per_day, prompt_tokens, output_tokens, seed),
        function=Function(speed, keep_warm * 60, max_concurrency, snapshot_start),
        gpu=Gpu(_gpu_speed(model, gpu_tokens_per_second), Scaling(most=most_containers, start_seconds=gpu_start)),
        deployment=Deployment(
            memory,
            speed.weights_bytes,
            instance.value,
            spot=spot,
            managed=capacity is Capacity.MANAGED,
            snapshots=snapshot_start is not None,
        ),
        prices=read_prices(prices or LIST_PRICES),
        goals=tuple(goal or ()),
        seed=seed,
    )
    made = make_plan(question)
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        _show(made)
    if out:
        write_page(made, out)
        Console(stderr=True, soft_wrap=True).print(f"page: {out}", markup=False, highlight=False)


def _traffic(path: Path | None, per_day: float | None, prompt: int, output: int, seed: int) -> "Traffic":
    from lifecycle.planning.trace import read_traffic  # noqa: PLC0415
    from lifecycle.planning.traffic import HOUR, HOURS, Description, Length  # noqa: PLC0415

    if (path is None) == (per_day is None):
        raise InvalidRequestError("traffic: give either a file or --requests-per-day", param="traffic")
    if path is not None:
        return read_traffic(path, seed)
    rate = _above_0("requests-per-day", per_day or 0.0) / HOUR / HOURS
    lengths = [Length(p50=tokens, p95=tokens) for tokens in (prompt, output)]
    description = Description(requests_per_second=[rate] * HOURS, prompt_tokens=lengths[0], output_tokens=lengths[1])
    return description.draw(seed)


def _gpu_speed(model: str, tokens_per_second: float | None) -> "GpuSpeed":
    from lifecycle.planning.speeds import assumed_gpu, measured_gpu  # noqa: PLC0415

    if tokens_per_second is not None:
        return assumed_gpu(_above_0("gpu-tokens-per-second", tokens_per_second))
    return measured_gpu(model) or assumed_gpu()


def _above_0(option: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise InvalidRequestError(f"{option}: must be a number above 0, got {value:g}", param=option)
    return value


def _show(made: dict[str, Any]) -> None:
    from lifecycle.planning.plan import NAMES, sentences  # noqa: PLC0415

    traffic = made["traffic"]
    title = (
        f"{traffic['requests_a_day']:,.0f} requests a day, {traffic['prompt_tokens']:,.0f} tokens read and "
        f"{traffic['output_tokens']:,.0f} written each"
    )
    targets = [made["targets"][target] for target in NAMES]
    table = Table("", *NAMES.values(), title=title, title_justify="left")
    table.add_row("dollars a month", *(f"{found['dollars_a_month']:,.2f}" for found in targets))
    table.add_row("dollars a million tokens", *(_number(found["dollars_a_million_tokens"]) for found in targets))
    for name, figure in (("first token", "first_token"), ("whole answer", "answer")):
        for percentile in ("p50", "p95", "p99"):
            seconds = [_number(found[figure][percentile], digits=3) for found in targets]
            table.add_row(f"{name}, {percentile}, s", *seconds)
    for name, share in (("met a cold start", "cold"), ("refused", "refused"), ("answered by a GPU", "gpu")):
        table.add_row(name, *(f"{found[f'{share}_share']:.2%}" for found in targets))
    for goal in made["targets"]["lambda"]["meets"]:
        table.add_row(f"95 % whole in {goal} s", *("yes" if found["meets"][goal] else "no" for found in targets))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table)
    for sentence in sentences(made["crossings"]):
        console.print(sentence)
    for note in made["notes"]:
        console.print(f"- {note}")


def _number(value: float | None, digits: int = 2) -> str:
    return "none" if value is None else f"{value:,.{digits}f}"
