"""Evaluations as `lifecycle evaluate` leaves them in a checkpoint folder, with any figures."""

import json
from collections.abc import Mapping

from handler.registry.manifest import version_of
from lifecycle.checkpoint import Checkpoint
from lifecycle.evaluations import EVALUATION
from lifecycle.publishing import describe_files
from tests.manifests import sha256


def evaluated(
    checkpoint: Checkpoint, perplexities: Mapping[str, float], *, created: str = "2026-11-24T12:00:00+00:00"
) -> Checkpoint:
    """Note a perplexity per word for each text, which is named by its content."""
    document = {
        "version": version_of(describe_files(checkpoint)),
        "texts": [{"name": text, "sha256": sha256(text.encode())} for text in perplexities],
        "figures": {
            text: {"perplexity_per_word": value, "perplexity_per_token": value / 2, "tokens": 1000}
            for text, value in perplexities.items()
        },
        "created": created,
        "machine": "a test's",
    }
    (checkpoint.folder / EVALUATION).write_text(json.dumps(document))
    return checkpoint
