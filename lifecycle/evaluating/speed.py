"""How fast an engine reads and writes on this machine, one sequence at a time, and what memory that takes."""

import resource
import sys
import time
from statistics import median
from typing import Any

from handler.inference.protocol import StepEngine

_ROUNDS = 3
_WRITTEN = 32  # tokens of a round
_READ = 512  # tokens of a prompt, at most


def measure_speed(engine: StepEngine, weights_bytes: int) -> dict[str, Any]:
    """Tokens a second, the medians of some rounds: enough to judge a model by, where `bench` compares engines.

    Args:
        engine: what runs the model.
        weights_bytes: the size of its weights' file.
    """
    prompt = [token % engine.vocabulary_size for token in range(min(_READ, engine.context_length // 2))]
    written = min(_WRITTEN, engine.context_length - len(prompt))
    reading, writing = [], []
    for _ in range(_ROUNDS):
        slot = engine.acquire()
        if slot is None:
            raise RuntimeError("the engine has no free slot")
        started = time.perf_counter()
        engine.prefill([slot], [prompt])
        read = time.perf_counter()
        for token in range(written):
            engine.decode([slot], [token])
        ended = time.perf_counter()
        engine.release(slot)
        reading.append(len(prompt) / (read - started))
        writing.append(written / (ended - read))
    # Kilobytes on Linux, bytes on macOS: getrusage(2).
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "prefill_tokens_per_second": round(median(reading), 1),
        "decode_tokens_per_second": round(median(writing), 1),
        "weights_bytes": weights_bytes,
        "largest_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }
