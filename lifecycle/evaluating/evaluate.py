"""Evaluate: have the engine that serves a checkpoint read texts it has never seen, and note how well it predicts them.

The report lies beside the weights as `evaluation.json`. It names the version that exactly these files are, so that
nobody can pass it off as that of others, and the documents, so that nobody trains on them afterwards.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handler.errors import CorruptModelError, InvalidRequestError
from handler.inference.build import build_engine
from handler.registry.manifest import version_of
from lifecycle.checkpoint import CONFIG, EVALUATION, TOKENIZER, WEIGHTS, read_checkpoint, read_json, read_tokenizer
from lifecycle.data.fingerprints import HELD_OUT, encode_fingerprints
from lifecycle.evaluating.page import write_page
from lifecycle.evaluating.samples import sample
from lifecycle.evaluating.scores import score_text
from lifecycle.evaluating.speed import measure_speed
from lifecycle.evaluating.texts import read_texts
from lifecycle.evaluating.windows import LONGEST_WINDOW
from lifecycle.machine import describe_machine
from lifecycle.publishing import describe_files
from lifecycle.weights import map_file

if TYPE_CHECKING:
    from handler.settings import EngineName

PAGE = "evaluation.html"

_KV_CACHE_BYTES = 1_000_000_000


def evaluate(
    folder: Path,
    texts: Sequence[Path],
    *,
    stride: int = 0,
    engine: "EngineName" = "auto",
    threads: int = 0,
    progress: Callable[[str, int], None] = lambda _text, _tokens: None,
) -> dict[str, Any]:
    """Evaluate a checkpoint and leave `evaluation.json` and `evaluation.html` in its folder.

    Packed weights are read as they are deployed, by the native engine, or unpacked by the reference engine.

    Args:
        folder: the checkpoint folder.
        texts: files of plain text or JSON lines, or folders of some; each file has figures of its own.
        stride: how far the window slides, from 1 to the context; 0 is half of the context.
        engine: what runs the model.
        threads: threads of the engine, 0 for as many as there are processors.
        progress: told of which text how many tokens more have been scored.

    Returns:
        What was written.

    Raises:
        InvalidRequestError: there is no such folder or no text, or the stride is out of bounds.
        CorruptModelError: the folder is not sound.
        UnsupportedModelError: something about the model is not implemented.
        OSError: the disk is full.
    """
    checkpoint = read_checkpoint(folder)
    context = min(checkpoint.architecture.context_length, LONGEST_WINDOW)
    if not 0 <= stride <= context:
        raise InvalidRequestError(f"stride: must be from 0 to the context of {context}, got {stride}", param="stride")
    given = read_texts(texts)
    document, weights = read_json(folder / CONFIG), map_file(folder / WEIGHTS)
    runner = build_engine(
        document,
        weights,
        engine=engine,
        kv_cache_bytes=_KV_CACHE_BYTES,
        threads=threads,
        context_limit=context,
    )
    tokenizer, stride = read_tokenizer(folder / TOKENIZER), stride or max(1, context // 2)
    scores = {
        text.name: score_text(runner, tokenizer, text.documents, stride=stride, progress=partial(progress, text.name))
        for text in given
    }
    marks = {document.fingerprint for score in scores.values() for document in score.documents}
    report = {
        "version": version_of(describe_files(checkpoint)),
        "texts": [{"name": text.name, "sha256": text.sha256} for text in given],
        "figures": {name: score.as_json() for name, score in scores.items()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "engine": runner.name,
        "context": context,
        "stride": stride,
        "samples": sample(runner, tokenizer),
        "speed": measure_speed(runner, len(weights)),
        "calibration": {name: score.calibration.as_json() for name, score in scores.items()},
        "documents": {name: [asdict(document) for document in score.documents] for name, score in scores.items()},
        HELD_OUT: encode_fingerprints(marks),
    }
    write_page(report, folder / PAGE)
    unfinished = (folder / EVALUATION).with_suffix(".partial")
    unfinished.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / EVALUATION)
    return report


def read_evaluation(folder: Path) -> dict[str, Any]:
    """The report of exactly the files that lie in a checkpoint folder.

    Raises:
        InvalidRequestError: there is no such folder, or there is no report, or it is that of other files.
        CorruptModelError: the folder or the report is not sound.
    """
    checkpoint = read_checkpoint(folder)
    if not (folder / EVALUATION).exists():
        raise InvalidRequestError(f"{folder} has not been evaluated: `lifecycle evaluate` does", param="folder")
    report, version = read_json(folder / EVALUATION), version_of(describe_files(checkpoint))
    if report.get("version") != version:
        raise InvalidRequestError(
            f"{folder / EVALUATION} is that of {report.get('version')}, and the files are {version}: evaluate again",
            param="folder",
        )
    if not isinstance(report.get("documents"), dict):
        raise CorruptModelError(f"{folder / EVALUATION}: documents is missing")
    return report
