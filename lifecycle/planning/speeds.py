"""How fast the targets are: what the benchmarks measured, or, of a GPU that nobody measured, what is assumed."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from handler.errors import InvalidRequestError

RESULTS: Final = Path(__file__).parents[2] / "bench" / "results"

# What Lambda's network carries into a function, for which cold starts were measured.
STORE: Final = "75MiBps"
STORE_BYTES_PER_SECOND: Final = 75 * 2**20

MB_OF_A_PROCESSOR: Final = 1769  # of a function's memory, for each processor that comes with it

# Of a GPU that nobody measured: a step of 10 ms, as eager PyTorch takes for a model of a dozen layers and more.
ASSUMED_BATCH: Final = 64
ASSUMED_DECODE: Final = 6_400.0
ASSUMED_PREFILL: Final = 20_000.0

SUBJECTS: Final = {8: "us", 4: "us-int4"}  # whose cold starts were measured, by bits of the weights


@dataclass(frozen=True, slots=True)
class FunctionSpeed:
    """An environment of the function, which answers one request at a time.

    Attributes:
        prefill: tokens a second that it reads.
        decode: tokens a second that it writes.
        start: seconds from the start of a process to its first token: the least, the usual, the most.
        front_start: seconds from the start of a process until it can forward a request.
        weights_bytes: what a start reads from S3.
    """

    prefill: float
    decode: float
    start: tuple[float, float, float]
    front_start: float
    weights_bytes: float

    def seconds(self, prompt: float, output: float) -> float:
        """What an answer takes, warm."""
        return prompt / self.prefill + output / self.decode


@dataclass(frozen=True, slots=True)
class GpuSpeed:
    """A GPU that decodes a batch, a token of each of its sequences a step.

    Attributes:
        prefill: tokens a second that it reads.
        decode: tokens a second that it writes for all sequences together, by their number, rising.
        machine: on which it was measured; empty where somebody assumes it.
    """

    prefill: float
    decode: tuple[tuple[int, float], ...]
    machine: str = ""

    def steps(self, most: int) -> tuple[float, ...]:
        """Seconds of a step by the batch's size, from 0 (none) to `most`.

        Between two sizes that were measured it is on a line; above the largest, where a larger batch wins nothing any
        more, it grows as the batch does.
        """
        sizes, rates = np.array(self.decode).T
        batches = np.arange(most + 1)
        seconds = np.interp(batches, sizes, sizes / rates) * np.maximum(batches / sizes[-1], 1.0)
        return 0.0, *(float(value) for value in seconds[1:])


def function_speed(model: str, *, bits: int = 8, memory_mb: int = 3008, results: Path = RESULTS) -> FunctionSpeed:
    """What `make bench-sizes` and `make bench-coldstart` measured, for a function of this memory.

    Cold starts were measured with the smallest model: a larger one takes as much longer as its bytes need. A function
    with fewer processors than the benchmark had threads is as much slower.

    Raises:
        InvalidRequestError: the model was not measured.
    """
    layout = f"packed-int{bits}-v1"
    sizes = [line for line in _lines(results / "sizes.jsonl") if line["setting"]["weights"] == layout]
    models = dict.fromkeys(line["subject"] for line in sizes)
    if model not in models:
        raise InvalidRequestError(
            f"model: {model!r} was not measured with {bits} bits; known: {', '.join(models)}", param="model"
        )
    figures = {line["figure"]: line for line in sizes if line["subject"] == model}
    smallest = min(line["median"] for line in sizes if line["figure"] == "weights")
    weights = figures["weights"]["median"] * 1e6
    longer = (weights - smallest * 1e6) / STORE_BYTES_PER_SECOND
    starts = _lines(results / "coldstart.jsonl")
    wanted = {"cache": "warm", "store": STORE}
    start, front = (
        _only(starts, figure=figure, subject=SUBJECTS[bits], setting=wanted) for figure in ("first_token", "imports")
    )
    share = min(1.0, memory_mb / MB_OF_A_PROCESSOR / figures["decode"]["setting"]["threads"])
    return FunctionSpeed(
        prefill=figures["prefill"]["median"] * share,
        decode=figures["decode"]["median"] * share,
        start=(start["min"] + longer, start["median"] + longer, start["max"] + longer),
        front_start=front["median"],
        weights_bytes=weights,
    )


def measured_gpu(model: str, subject: str = "continuous", results: Path = RESULTS) -> GpuSpeed | None:
    """What was measured of a model on a GPU: the figures `prefill` and `decode`, by `concurrency`; None if nothing."""
    path = results / "gpu.jsonl"
    lines = _lines(path) if path.exists() else []
    own = [line for line in lines if line["subject"] == subject and line["setting"].get("model") == model]
    decode = sorted((line["setting"]["concurrency"], line["median"]) for line in own if line["figure"] == "decode")
    prefill = [line["median"] for line in own if line["figure"] == "prefill"]
    return GpuSpeed(max(prefill), tuple(decode), own[0]["machine"]) if decode and prefill else None


def assumed_gpu(tokens_per_second: float = ASSUMED_DECODE) -> GpuSpeed:
    """A GPU on which a step takes the same time for any batch, as where launching kernels or reading weights bounds it.

    Args:
        tokens_per_second: what it writes for as many requests at once as a container takes.
    """
    alone = tokens_per_second / ASSUMED_BATCH
    return GpuSpeed(ASSUMED_PREFILL, ((1, alone), (ASSUMED_BATCH, tokens_per_second)))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _only(lines: Iterable[Mapping[str, Any]], **wanted: object) -> Mapping[str, Any]:
    """The line of a figure."""
    (line,) = (line for line in lines if all(line[name] == value for name, value in wanted.items()))
    return line
