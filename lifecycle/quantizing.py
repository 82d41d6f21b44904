"""Quantize: from a checkpoint of floating-point weights to a packed one that knows what it lost."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from handler.errors import InvalidRequestError, UnsupportedModelError
from handler.inference.build import build_engine
from handler.inference.config import ModelConfig
from handler.inference.packed import LAYOUT_BITS, bits_of
from handler.registry.manifest import version_of
from lifecycle.checkpoint import (
    CONFIG,
    PROVENANCE,
    WEIGHTS,
    Checkpoint,
    Provenance,
    read_checkpoint,
    read_json,
    read_tokenizer,
    write_json,
)
from lifecycle.comparing import compare, own_windows, text_windows
from lifecycle.folders import check_free
from lifecycle.packing import pack
from lifecycle.publishing import describe_files
from lifecycle.quality import QUANTIZATION, QuantizationFigures
from lifecycle.weights import map_file, map_tensors, write_tensors

LAYOUTS: Final = {bits: layout for layout, bits in LAYOUT_BITS.items()}

TOKENS: Final = 16_384  # of text, at most, on which the figures are taken
_KV_CACHE_BYTES: Final = 1_000_000_000


def quantize(
    folder: Path,
    out: Path,
    bits: int,
    text: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Checkpoint:
    """Pack a checkpoint's weights and measure what that cost.

    Args:
        folder: a checkpoint folder whose weights are not packed.
        out: the checkpoint folder to make; it must not exist or be empty.
        bits: of a weight, 8 or 4.
        text: held-out text to measure on, a file or a folder of `*.txt`; None lets the model write it.
        progress: told how many tokens have been read, and of how many.

    Returns:
        The packed checkpoint, with the figures in its evaluation.

    Raises:
        InvalidRequestError: `out` holds files, the folder's weights are packed already, or there is no text.
        CorruptModelError: the folder is not sound.
        UnsupportedModelError: something about the model is not implemented.
    """
    source = read_checkpoint(folder)
    if not source.is_gpt2:
        raise UnsupportedModelError(
            f"{folder}: only a GPT-2 can be quantized, given the architecture {source.architecture.model_type!r}"
        )
    if source.layout is not None:
        raise InvalidRequestError(f"{folder}: its weights are packed already, as {source.layout}", param="folder")
    check_free(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        for name in set(source.files) - {WEIGHTS}:
            shutil.copyfile(folder / name, out / name)
        config, layout = ModelConfig.from_json(read_json(folder / CONFIG)), LAYOUTS[bits]
        write_tensors(out / WEIGHTS, pack(config, map_tensors(folder / WEIGHTS)[0], layout), layout)
        figures = measure(source, out, config, layout, text=text, progress=progress)
        provenance = Provenance(
            source=source.provenance.source,
            license=source.provenance.license,
            derived_from=version_of(describe_files(source)),
            evaluation={QUANTIZATION: figures.as_json(), "before_quantization": source.provenance.evaluation},
            training=source.provenance.training,
            data=source.provenance.data,
        )
        write_json(out / PROVENANCE, asdict(provenance))
        return read_checkpoint(out)
    except BaseException:
        shutil.rmtree(out)  # half a checkpoint is none
        raise


def measure(
    source: Checkpoint,
    packed: Path,
    config: ModelConfig,
    layout: str,
    *,
    text: Path | None,
    progress: Callable[[int, int], None],
) -> QuantizationFigures:
    """Hold packed weights, on the engine that will serve them, against the source's in 32 bits."""
    first, second = (
        build_engine(
            read_json(folder / CONFIG),
            map_file(folder / WEIGHTS),
            engine="auto",
            kv_cache_bytes=_KV_CACHE_BYTES,
            threads=0,
        )
        for folder in (source.folder, packed)
    )
    tokenizer = read_tokenizer(source.folder / "tokenizer.json")
    if text is None:
        windows = own_windows(tokenizer, first)
    else:
        windows = text_windows(tokenizer, text, config.context_length, TOKENS)
    total, done = sum(len(window) - 1 for window in windows), 0

    def count(tokens: int) -> None:
        nonlocal done
        done += tokens
        progress(done, total)

    comparison = compare(first, second, windows, count)
    before, after = comparison.perplexities
    return QuantizationFigures(
        bits=bits_of(layout),
        text=text.name if text else "written by the model itself",
        tokens=comparison.tokens,
        perplexity_before=round(before, 4),
        perplexity_after=round(after, 4),
        perplexity_rise=round(after / before - 1, 6),
        top1_agreement=round(comparison.agreed / comparison.tokens, 5),
        kl_divergence=round(comparison.divergence / comparison.tokens, 6),
        engine=second.name,
        weights_sha256=hashlib.sha256(map_file(packed / WEIGHTS)).hexdigest(),
    )
