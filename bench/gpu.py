"""`make bench-gpu`: what a GPU makes of many requests at once, for GPT-2 with 124 million weights and with 1.6 billion.

Random weights, of 16 bits on a GPU and 32 on a CPU; prompts of 64 tokens, greedy. Subjects: `continuous` (transformers'
continuous batching as it serves here), `scheduler` (our own over the transformers engine), `generate` (transformers'
`generate` of one batch that is known in advance) and `vllm`, where that can be imported. The first three share one copy
of the weights. Figures:

- `decode`: new tokens a second of all requests together, from the first one's begin to the last one's end.
- `first_token`: milliseconds from a request to its first token, the median of all; all begin together.
- `step`: milliseconds from token to token of a request that is alone.
- `floor`: milliseconds in which memory gives every weight once, at the bandwidth of a copy.
- `start`: seconds from the start of a container's process to its first token, for each engine that a GPU can run; the
  model, of 32 bits, is in a store on this machine.
"""

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer
from rich.console import Console
from transformers import PreTrainedModel

from bench.cold.checkpoints import random_model
from bench.engine import CACHE, ROOT, prompts
from bench.gpu_start import seconds_to_first_token
from bench.gpu_subjects import Generate, ask, subjects_of, vllm
from bench.report import Report
from bench.subject import SubjectError
from handler.app import spare_the_event_loop
from handler.inference.causal_model import find_device
from lifecycle.machine import describe_machine

PROMPT, NEW = 64, 128
ENGINES: Final = ("continuous", "transformers")

# Bytes that are copied to see how fast memory is: more than any cache holds.
_COPIED: Final = 2**28

console = Console(stderr=True, highlight=False, soft_wrap=True)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each figure is taken.")] = 5,
    device: Annotated[str, typer.Option(help="cuda, or cpu to try it without a GPU.")] = "cuda",
    sizes: Annotated[str, typer.Option(help="Sizes of GPT-2, or `try`, with commas between them.")] = "gpt2,gpt2-xl",
    requests: Annotated[str, typer.Option(help="How many at once, with commas between them.")] = "1,16,64,256",
    out: Annotated[Path, typer.Option(help="Where the lines of JSON go.")] = ROOT / "bench/results/gpu.jsonl",
) -> None:
    """Measure, print and write the results."""
    place, crowds = find_device(device), [int(number) for number in requests.split(",")]
    gpu = f"{torch.cuda.get_device_name()}, " if place == "cuda" else ""
    machine = gpu + describe_machine()
    spare_the_event_loop()  # as whoever serves does: threads then hand over to each other five times as often
    report = Report()
    for size in sizes.split(","):
        with ExitStack() as stack:
            model, subjects = stack.enter_context(subjects_of(size, place, context=PROMPT + NEW, most=max(crowds)))
            try:
                subjects["vllm"] = partial(ask, stack.enter_context(vllm(model)))
            except SubjectError as error:
                console.print(f"vllm: {error}", markup=False)
            measure(report, size, model, subjects, crowds=crowds, new=NEW, rounds=rounds)
        report.write(out, machine)  # at once: machines with a GPU are lent for minutes
    for engine in ENGINES:
        for _ in range(rounds):
            seconds = seconds_to_first_token(random_model(CACHE), engine, place)
            report.add("start", engine, {"size": "gpt2", "device": place}, "s", seconds)
    report.write(out, machine)
    for figure, setting, unit in report.settings():
        told = ", ".join(f"{name} {value}" for name, value in setting.items())
        Console().print(report.table(figure, setting, f"{figure}, {unit} ({told})", {}))


def measure(
    report: Report,
    size: str,
    model: PreTrainedModel,
    subjects: dict[str, Generate],
    *,
    crowds: list[int],
    new: int,
    rounds: int,
) -> None:
    """Take all figures of one size in turn, round after round."""
    random = np.random.default_rng(0)
    for number in range(rounds + 1):  # the first round warms up
        console.print(f"{size}: round {number} of {rounds}")
        kept = report if number else Report()
        where = {"size": size, "device": model.device.type}
        kept.add("floor", "memory", where, "ms", 1000 * weight_bytes(model) / copy_bandwidth(model.device))
        for crowd in crowds:
            asked, setting = prompts(random, crowd, PROMPT), where | {"requests": crowd, "prompt": PROMPT, "new": new}
            for name, generate in subjects.items():
                done = generate(asked, new)
                kept.add("decode", name, setting, "tok/s", crowd * new / done.seconds)
                if done.first_token is not None:
                    kept.add("first_token", name, setting, "ms", 1000 * done.first_token)
                    if crowd == 1:
                        step = (done.seconds - done.first_token) / (new - 1)
                        kept.add("step", name, where, "ms", 1000 * step)


def weight_bytes(model: PreTrainedModel) -> int:
    """What a step reads of the weights at the least: all but the position embeddings, those that are shared once."""
    return sum(weight.nbytes for name, weight in model.named_parameters() if not name.endswith("wpe.weight"))


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second that memory gives and takes while it is copied, the best of some copies."""
    source = torch.ones(_COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * _COPIED / min(times)


if __name__ == "__main__":
    typer.run(main)
