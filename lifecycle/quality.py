"""What quantizing may cost: the gate between a packed checkpoint and the registry.

`lifecycle quantize` measures and notes its figures with the SHA-256 of the weights they belong to; nothing packed is
published without figures of exactly its bytes that keep the limit. A limit other than the default is written into the
manifest beside them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from handler.errors import RegistryError
from handler.inference.packed import bits_of
from handler.registry.manifest import ManifestFile
from lifecycle.checkpoint import WEIGHTS, Checkpoint

# The largest rise in perplexity that is published without being asked for, by the bits of the weights.
MAX_PERPLEXITY_RISE: Final[Mapping[int, float]] = {8: 0.01, 4: 0.05}

QUANTIZATION: Final = "quantization"  # where the figures stand among a checkpoint's evaluations


class QualityError(RegistryError):
    """A model is not good enough to be published, or nobody knows whether it is."""


@dataclass(frozen=True, slots=True)
class QuantizationFigures:
    """What quantizing cost, measured on the same tokens before and after.

    Attributes:
        bits: bits of a weight.
        text: what was read: the names of the texts, or that the model wrote them itself.
        tokens: tokens predicted.
        perplexity_before: of the source, in 32 bits.
        perplexity_after: of the packed weights, on the engine that serves them.
        perplexity_rise: the second over the first, less 1.
        top1_agreement: the share of positions at which both find the same token most probable.
        kl_divergence: of the packed model's distribution from the source's, mean over positions, in nats.
        engine: what ran the packed weights.
        weights_sha256: of the weights' file, so that the figures are nobody else's.
    """

    bits: int
    text: str
    tokens: int
    perplexity_before: float
    perplexity_after: float
    perplexity_rise: float
    top1_agreement: float
    kl_divergence: float
    engine: str
    weights_sha256: str

    def as_json(self) -> dict[str, Any]:
        """The figures as they are noted."""
        return asdict(self)


def passed_evaluation(
    checkpoint: Checkpoint, files: tuple[ManifestFile, ...], max_perplexity_rise: float | None
) -> Mapping[str, Any]:
    """A checkpoint's evaluation, with the limit it kept where that is not the default.

    Args:
        checkpoint: what is about to be published.
        files: the entries of its files.
        max_perplexity_rise: the limit, or None for the default.

    Raises:
        QualityError: it is packed, and its figures are missing, are those of other weights, or break the limit.
    """
    evaluation = checkpoint.provenance.evaluation
    if checkpoint.layout is None:
        return evaluation
    figures = evaluation.get(QUANTIZATION)
    if not isinstance(figures, dict) or type(figures.get("perplexity_rise")) not in {int, float}:
        raise QualityError(
            f"{checkpoint.folder}: quantized, but nobody measured what that cost: `lifecycle quantize` does"
        )
    (sha256,) = (file.sha256 for file in files if file.path == WEIGHTS)
    if figures.get("weights_sha256") != sha256:
        raise QualityError(f"{checkpoint.folder}: the quantization figures are those of other weights than {WEIGHTS}")
    limit = MAX_PERPLEXITY_RISE[bits_of(checkpoint.layout)] if max_perplexity_rise is None else max_perplexity_rise
    if not figures["perplexity_rise"] <= limit:
        raise QualityError(
            f"{checkpoint.folder}: quantizing raised the perplexity by {figures['perplexity_rise']:.2%}, "
            f"and at most {limit:.2%} is published; --max-perplexity-rise sets another limit"
        )
    if max_perplexity_rise is None:
        return evaluation
    return {**evaluation, QUANTIZATION: {**figures, "max_perplexity_rise": max_perplexity_rise}}
