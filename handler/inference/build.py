"""Puts a backend together from a model's files: tokenizer, engine, scheduler."""

import json
from collections.abc import Mapping

from handler.errors import CorruptModelError
from handler.inference.config import ModelConfig
from handler.inference.reference import ReferenceEngine
from handler.inference.scheduler import Scheduler
from handler.inference.tokenizer import Tokenizer
from handler.inference.weights import read_tensors


def build_backend(files: Mapping[str, memoryview], *, kv_cache_mb: int, threads: int) -> tuple[Tokenizer, Scheduler]:
    """The tokenizer and the backend of a version's files.

    Args:
        files: verified bytes by file name, as the registry hands them out.
        kv_cache_mb: megabytes (10^6 bytes) for keys and values.
        threads: threads of the engine, 0 for as many as there are processors.

    Raises:
        CorruptModelError: a file is missing or damaged.
        UnsupportedModelError: something in them is not implemented.
    """
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        if name not in files:
            raise CorruptModelError(f"{name} is not among the version's files: {', '.join(sorted(files))}")
    config = ModelConfig.from_json(json.loads(bytes(files["config.json"])))
    tensors, _ = read_tensors(files["model.safetensors"])
    engine = ReferenceEngine(config, tensors, kv_cache_bytes=kv_cache_mb * 1_000_000, threads=threads)
    return Tokenizer(bytes(files["tokenizer.json"])), Scheduler(engine)
