"""Puts a backend together from a model's files: tokenizer, engine, scheduler."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.native import NativeEngine
from handler.inference.packed import LAYOUT_BITS, unpack
from handler.inference.protocol import Backend, StepEngine
from handler.inference.scheduler import Scheduler
from handler.inference.tokenizer import Tokenizer, ends_named_in
from handler.inference.weights import Tensor, read_tensors
from handler.telemetry import logger

if TYPE_CHECKING:
    from handler.settings import DeviceName, EngineName


def build_backend(
    files: Mapping[str, memoryview],
    *,
    engine: "EngineName",
    kv_cache_mb: int,
    threads: int,
    device: "DeviceName" = "auto",
    context_limit: int | None = None,
) -> tuple[Tokenizer, Backend]:
    """The tokenizer and the backend of a version's files.

    Args:
        files: verified bytes by file name, as the registry hands them out.
        engine: what runs the model, like what follows: see `build_engine`; or "continuous", which is no step engine.
        kv_cache_mb: megabytes (10^6 bytes) for keys and values.
        threads: threads of the engine, 0 for as many as there are processors.
        device: what the transformers engine runs on.
        context_limit: the most tokens of a sequence that will be asked for, None for the model's context.

    Raises:
        CorruptModelError: a file is missing or damaged.
        UnsupportedModelError: something in them is not implemented.
    """
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        if name not in files:
            raise CorruptModelError(f"{name} is not among the version's files: {', '.join(sorted(files))}")
    document, weights = json.loads(bytes(files["config.json"])), files["model.safetensors"]
    generation = json.loads(bytes(files.get("generation_config.json", b"{}")))
    tokenizer = Tokenizer(bytes(files["tokenizer.json"]), ends_named_in(generation, document))
    backend: Backend
    if engine == "continuous":
        # Imported here because torch and transformers take longer to import than everything else together.
        from handler.inference.twin import continuous_backend  # noqa: PLC0415

        tensors, metadata = read_tensors(weights)
        backend = continuous_backend(
            document,
            _plain(document, tensors, metadata),
            device=device,
            kv_cache_bytes=kv_cache_mb * 1_000_000,
            context_limit=context_limit,
            threads=threads,
            narrow="layout" in metadata,
        )
    else:
        step_engine = build_engine(
            document,
            weights,
            engine=engine,
            kv_cache_bytes=kv_cache_mb * 1_000_000,
            threads=threads,
            device=device,
            context_limit=context_limit,
        )
        backend = Scheduler(step_engine)
    # To an engine an id is the number of a row of its embeddings, and the kernels would read behind the last.
    if tokenizer.vocabulary_size > backend.vocabulary_size:
        raise CorruptModelError(
            f"tokenizer.json has {tokenizer.vocabulary_size} tokens, and the model {backend.vocabulary_size}"
        )
    return tokenizer, backend


def build_engine(
    document: Mapping[str, Any],
    weights: memoryview,
    *,
    engine: "EngineName",
    kv_cache_bytes: int,
    threads: int,
    device: "DeviceName" = "auto",
    context_limit: int | None = None,
) -> StepEngine:
    """The engine for a weights file.

    Packed weights are the native engine's. Where it cannot be loaded, "auto" unpacks them for the reference engine,
    which serves the same model at a fraction of the speed; plain weights of a GPT-2 are the reference engine's in any
    case. Models of other architectures are the transformers engine's, which runs any GPT-2, too, where it is asked for.

    Args:
        document: the object in the model's `config.json`.
        weights: the safetensors file.
        engine: what runs it.
        kv_cache_bytes: room for keys and values.
        threads: threads of the engine, 0 for as many as there are processors.
        device: what the transformers engine runs on.
        context_limit: the most tokens of a sequence that it makes room for, where the model's context is longer.

    Raises:
        CorruptModelError: the file is damaged.
        UnsupportedModelError: the layout or the architecture is not known, or not to the engine that is asked for.
    """
    tensors, metadata = read_tensors(weights)
    layout = metadata.get("layout")
    is_gpt2 = document.get("model_type") == "gpt2"
    if engine == "transformers" or (engine == "auto" and not is_gpt2):
        # Imported here for the same reason.
        from handler.inference.causal import causal_engine  # noqa: PLC0415

        return causal_engine(
            document,
            _plain(document, tensors, metadata),
            device=device,
            kv_cache_bytes=kv_cache_bytes,
            context_limit=context_limit,
            threads=threads,
            narrow=layout is not None,
        )
    if not is_gpt2:
        raise UnsupportedModelError(
            f"ENGINE={engine} runs GPT-2 alone, and this model is of the type {document.get('model_type')!r}: "
            "choose ENGINE=auto"
        )
    config = ModelConfig.from_json(document)
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
    # Imported here for the same reason.
    from handler.inference.reference import ReferenceEngine  # noqa: PLC0415

    plain = _plain(document, tensors, metadata)
    return ReferenceEngine(config, plain, kv_cache_bytes=kv_cache_bytes, threads=threads)


def _plain(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Mapping[str, Tensor]:
    """The tensors, unpacked where they are packed."""
    layout = metadata.get("layout")
    return tensors if layout is None else unpack(ModelConfig.from_json(document), tensors, layout)
