"""The evaluations of a version: from the file beside a checkpoint to objects beside the manifest, which cannot change.

`lifecycle evaluate DIR` leaves `evaluation.json` in the folder, which names the version it is an evaluation of: the
digest of exactly the bytes that were evaluated. Publishing the folder keeps it; so does publishing it again, after an
evaluation was made later. Each lies under the digest of its content and is never replaced.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from handler.errors import ConflictError, CorruptModelError
from handler.registry.manifest import Manifest
from handler.registry.names import evaluations_prefix
from lifecycle.quality import QualityError
from lifecycle.store import WritableStore
from lifecycle.uploading import put

EVALUATION: Final = "evaluation.json"

PERPLEXITY: Final = "perplexity_per_word"
"""The figure that versions are compared by: unlike that of a token, it does not depend on the tokenizer."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured of a version.

    Attributes:
        version: of which, as the digest of its files.
        created: when, ISO 8601 in UTC.
        texts: the SHA-256 of each text by its name.
        figures: what was measured on each text by its name, and perhaps more.
        machine: where.
    """

    version: str
    created: str
    texts: Mapping[str, str]
    figures: Mapping[str, Any]
    machine: str

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "Evaluation":
        """Read an evaluation.

        Raises:
            CorruptModelError: it is none; the message says what is wrong, and where.
        """
        try:
            document = json.loads(data)
            texts = {text["name"]: text["sha256"] for text in document["texts"]}
            figures = document["figures"]
            found = cls(document["version"], document["created"], texts, figures, str(document.get("machine", "")))
            perplexities = [figures[name][PERPLEXITY] for name in texts]
        except (ValueError, RecursionError) as error:
            raise CorruptModelError(f"{where} is not JSON: {error}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptModelError(f"{where} is no evaluation: {type(error).__name__}: {error}") from error
        if not all(isinstance(text, str) for text in (found.version, found.created, *texts, *texts.values())):
            raise CorruptModelError(f"{where}: version, created and each text's name and sha256 must be strings")
        for value in perplexities:
            if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
                raise CorruptModelError(f"{where}: {PERPLEXITY} must be a positive number, not {value!r:.100}")
        return found


@dataclass(frozen=True, slots=True)
class Measured:
    """How well a version predicts one text: the text's name, and the perplexity per word."""

    text: str
    perplexity: float


def evaluation_of(folder: Path, version: str) -> bytes | None:
    """The evaluation that lies in a checkpoint folder, checked, or None where there is none.

    Raises:
        CorruptModelError: the file is damaged.
        QualityError: it is the evaluation of other bytes.
    """
    path = folder / EVALUATION
    if not path.exists():
        return None
    data = path.read_bytes()
    evaluated = Evaluation.from_json(data, str(path)).version
    if evaluated != version:
        raise QualityError(
            f"{path} is an evaluation of {evaluated}, and the folder holds {version}: evaluate it again, or remove it"
        )
    return data


def attach(store: WritableStore, manifest: Manifest, evaluation: bytes) -> None:
    """Keep an evaluation beside the version's manifest."""
    key = f"{evaluations_prefix(manifest.name, manifest.version)}{hashlib.sha256(evaluation).hexdigest()[:16]}.json"
    with suppress(ConflictError):  # it is there already
        put(store, key, evaluation, etag=None)


def evaluations(store: WritableStore, name: str, version: str) -> list[Evaluation]:
    """All evaluations of a version, the latest last.

    Raises:
        CorruptModelError: one is damaged.
    """
    prefix = evaluations_prefix(name, version)
    found = [
        Evaluation.from_json(store.read(prefix + rest)[0], f"s3://{store.bucket}/{prefix}{rest}")
        for rest in store.keys_below(prefix)
    ]
    return sorted(found, key=lambda evaluation: evaluation.created)


def measured(store: WritableStore, name: str, version: str) -> dict[str, Measured]:
    """How well a version predicts texts, by their SHA-256; of two evaluations on one text the later counts."""
    return {
        sha256: Measured(text, evaluation.figures[text][PERPLEXITY])
        for evaluation in evaluations(store, name, version)
        if evaluation.version == version
        for text, sha256 in evaluation.texts.items()
    }
