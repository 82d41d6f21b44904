"""Puts a backend together from a model's files: tokenizer, engine, scheduler."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.native import NativeEngine
from handler.inference.packed import LAYOUT_BITS, unpack
from handler.inference.protocol import StepEngine
from handler.inference.scheduler import Scheduler
from handler.inference.tokenizer import Tokenizer
from handler.inference.weights import read_tensors
from handler.telemetry import logger

if TYPE_CHECKING:
    from handler.settings import EngineName


def build_backend(
    files: Mapping[str, memoryview], *, engine: "EngineName", kv_cache_mb: int, threads: int
) -> tuple[Tokenizer, Scheduler]:
    """The tokenizer and the backend of a version's files.

    Args:
        files: verified bytes by file name, as the registry hands them out.
        engine: what runs the model; see `build_engine`.
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
    step_engine = build_engine(
        config, files["model.safetensors"], engine=engine, kv_cache_bytes=kv_cache_mb * 1_000_000, threads=threads
    )
    return Tokenizer(bytes(files["tokenizer.json"])), Scheduler(step_engine)


def build_engine(
    config: ModelConfig, weights: memoryview, *, engine: "EngineName", kv_cache_bytes: int, threads: int
) -> StepEngine:
    """The engine for a weights file.

    Packed weights are the native engine's. Where it cannot be loaded, "auto" unpacks them for the reference engine,
    which serves the same model at a fraction of the speed; plain weights are the reference engine's in any case.

    Raises:
        CorruptModelError: the file is damaged.
        UnsupportedModelError: the layout is not known, or "native" is asked for what it cannot run.
    """
    tensors, metadata = read_tensors(weights)
    layout = metadata.get("layout")
    if layout is not None and engine != "reference":
        try:
            return NativeEngine(config, tensors, layout, kv_cache_bytes=kv_cache_bytes, threads=threads)
        except OSError as error:
            if engine == "native":
                raise UnsupportedModelError(f"the native engine cannot be loaded: {error}") from error
            logger.warning("native engine not loaded, the reference engine serves", reason=str(error))
    elif engine == "native":
        raise UnsupportedModelError(
            f"ENGINE=native runs packed weights ({', '.join(LAYOUT_BITS)}), and this model's are not packed: "
            "quantize it, or choose ENGINE=auto"
        )
    # Imported here because torch takes longer to import than everything else together.
    from handler.inference.reference import ReferenceEngine  # noqa: PLC0415

    plain = tensors if layout is None else unpack(config, tensors, layout)
    return ReferenceEngine(config, plain, kv_cache_bytes=kv_cache_bytes, threads=threads)
