"""Our own engines, driven through the step-engine protocol: `ours CHECKPOINT native|reference`."""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.peers.child import Generate, Tokens, serve
from handler.inference.build import build_engine
from handler.inference.protocol import StepEngine
from handler.registry.loader import buffer_of

# Eight sequences of GPT-2's context, in 32 bits.
_KV_CACHE_BYTES = 700_000_000


def load(folder: Path, engine: Any) -> Generate:
    """The engine, its weights in memory as the service has them."""
    document = json.loads((folder / "config.json").read_bytes())
    path = folder / "model.safetensors"
    weights = buffer_of(path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        read = 0
        while read < len(weights):
            read += file.readinto(weights[read:])
    threads = int(os.environ["OMP_NUM_THREADS"])
    return partial(
        generate, build_engine(document, weights, engine=engine, kv_cache_bytes=_KV_CACHE_BYTES, threads=threads)
    )


def generate(engine: StepEngine, prompts: Tokens, new: int) -> Tokens:
    """Read the prompts and decode greedily, all sequences in step."""
    slots = [slot for _ in prompts if (slot := engine.acquire()) is not None]
    chosen: list[npt.NDArray[np.int64]] = [np.concatenate(engine.prefill(slots, prompts)).argmax(1)]
    for _ in range(new - 1):
        chosen.append(engine.decode(slots, chosen[-1].tolist()).argmax(1))
    for slot in slots:
        engine.release(slot)
    return [list(map(int, tokens)) for tokens in np.stack(chosen, 1)]


if __name__ == "__main__":
    serve(partial(load, Path(sys.argv[1]), sys.argv[2]))
