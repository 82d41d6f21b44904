"""`make bench-sizes`: every size of GPT-2 on the native engine, tokens a second and memory, one process each.

The weights are random bytes in the packed form: speed and memory do not depend on what they say, and a checkpoint of
1.6 billion weights need not be made first. Figures, of as many threads as there are processors:

- `decode`: new tokens a second, 64 behind a prompt of 16, greedy.
- `prefill`: prompt tokens a second, 512 in.
- `weights`: megabytes (10^6 bytes) of weights.
- `resident`: megabytes of memory of the whole process at its largest, after a sequence as long as the context.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from bench.report import Report
from handler.inference.config import ModelConfig
from handler.inference.native import NativeEngine
from handler.inference.packed import LAYOUT_BITS, packed_tensors
from handler.inference.threads import available_processors
from handler.inference.weights import DTYPE_BYTES, Tensor
from handler.registry.loader import buffer_of
from lifecycle.machine import describe_machine

ROOT: Final = Path(__file__).parent.parent

# https://huggingface.co/openai-community: layers, heads, width.
SIZES: Final = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}

PROMPT, NEW, LONG_PROMPT, CHUNK = 16, 64, 512, 256
ROUNDS: Final = 5


def main() -> None:
    """Measure every size and layout in a process of its own, so that memory is that one's alone; print and write."""
    report = Report()
    for size in SIZES:
        for layout in LAYOUT_BITS:
            command = [sys.executable, "-m", "bench.sizes", size, layout]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
            for figure, unit, reading in json.loads(done.stdout):
                setting = {"weights": layout, "threads": available_processors()}
                report.add(figure, size, setting, unit, reading)
    report.write(ROOT / "bench/results/sizes.jsonl", describe_machine())
    for layout in LAYOUT_BITS:
        setting = {"weights": layout, "threads": available_processors()}
        for figure in ("decode", "prefill", "weights", "resident"):
            Console().print(report.table(figure, setting, f"{figure} ({layout})", {}))


def measure(size: str, layout: str) -> list[tuple[str, str, float]]:
    """The readings of one size and layout: figure, unit, value."""
    layers, heads, width = SIZES[size]
    config = ModelConfig.from_json({"model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": width})
    tensors, nbytes = random_weights(config, layout)
    slot = 2 * layers * width * config.context_length * 2
    engine = NativeEngine(config, tensors, layout, kv_cache_bytes=slot)
    readings: list[tuple[str, str, float]] = []
    for number in range(ROUNDS + 1):  # the first warms up
        prefill, decode = prefill_speed(engine), decode_speed(engine)
        if number:
            readings += [("decode", "tok/s", decode), ("prefill", "tok/s", prefill)]
    run(engine, config.context_length)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return [*readings, ("weights", "MB", nbytes / 1e6), ("resident", "MB", resident)]


def random_weights(config: ModelConfig, layout: str) -> tuple[dict[str, Tensor], int]:
    """Packed tensors in one buffer, as the loader has them; bytes at random, every scale and norm small and sane."""
    shapes = packed_tensors(config, layout)
    sizes = {name: int(np.prod(shape)) * DTYPE_BYTES[dtype] for name, (dtype, shape) in shapes.items()}
    buffer = buffer_of(sum(sizes.values()))
    random, start, tensors = np.random.default_rng(0), 0, {}
    for name, (dtype, shape) in shapes.items():
        data = buffer[start : start + sizes[name]]
        if dtype == "U8":
            np.frombuffer(data, np.uint8)[:] = random.integers(1, 256, sizes[name], np.uint8)
        else:
            values = np.frombuffer(data, "<f2" if dtype == "F16" else "<f4")
            values[:] = 1 if ".ln_" in f".{name}" and name.endswith("weight") else 1e-3
        tensors[name] = Tensor(dtype, shape, data)
        start += sizes[name]
    return tensors, start


def run(engine: NativeEngine, length: int) -> float:
    """Seconds that a prompt takes."""
    slot = engine.acquire()
    if slot is None:
        raise RuntimeError("the engine has no free slot")
    started = time.perf_counter()
    for start in range(0, length, CHUNK):
        engine.prefill([slot], [[7] * min(CHUNK, length - start)])
    seconds = time.perf_counter() - started
    engine.release(slot)
    return seconds


def prefill_speed(engine: NativeEngine) -> float:
    """Prompt tokens a second."""
    return LONG_PROMPT / run(engine, LONG_PROMPT)


def decode_speed(engine: NativeEngine) -> float:
    """New tokens a second."""
    slot = engine.acquire()
    if slot is None:
        raise RuntimeError("the engine has no free slot")
    token = int(engine.prefill([slot], [[7] * PROMPT])[0].argmax())
    started = time.perf_counter()
    for _ in range(NEW):
        token = int(engine.decode([slot], [token]).argmax())
    seconds = time.perf_counter() - started
    engine.release(slot)
    return NEW / seconds


if __name__ == "__main__":
    if len(sys.argv) == 3:
        json.dump(measure(sys.argv[1], sys.argv[2]), sys.stdout)
    else:
        main()
