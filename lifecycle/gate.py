"""The gate before an alias: a version passes if it was evaluated, and is no worse than what is live.

Both are measured by the perplexity per word on the same texts. The first version of a model has nothing to be compared
with; it needs figures of its own, for which those of quantizing are enough, because they hold it against its source.
"""

from dataclasses import dataclass
from typing import Final

from handler.registry.manifest import Manifest
from lifecycle.evaluations import Measured, measured
from lifecycle.quality import QUANTIZATION
from lifecycle.store import WritableStore

# How much the perplexity per word of each text may rise: less than a reader, or another evaluation, would notice.
MAX_RISE: Final = 0.01

_EVALUATE: Final = "`lifecycle evaluate` its checkpoint folder, and publish that again, which adds the evaluation"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a version passed, and why, in words for people and for the history."""

    passed: bool
    words: str


def judge(store: WritableStore, manifest: Manifest, live: str | None, max_rise: float = MAX_RISE) -> Verdict:
    """Hold a version against the one that is live.

    Args:
        store: the bucket.
        manifest: the version's.
        live: the version to compare it with, None where it is the first.
        max_rise: how much the perplexity per word may rise, as a share of it, on any text both were evaluated on.

    Raises:
        CorruptModelError: an evaluation is damaged.
    """
    name, version = manifest.name, manifest.version
    if live == version:
        return Verdict(passed=True, words=f"{version} is what is live")
    own = measured(store, name, version)
    if live is None:
        return _first(manifest, own)
    if not own:
        return Verdict(passed=False, words=f"nobody evaluated {version}: {_EVALUATE}")
    theirs = measured(store, name, live)
    if not theirs:
        return Verdict(passed=False, words=f"nobody evaluated {live}, which is live: {_EVALUATE}")
    rises = {sha256: own[sha256].perplexity / theirs[sha256].perplexity - 1 for sha256 in own.keys() & theirs.keys()}
    if not rises:
        texts = (", ".join(sorted(each.text for each in side.values())) for side in (own, theirs))
        return Verdict(
            passed=False,
            words="{} was evaluated on {}, and {}, which is live, on {}: evaluate both on the same text".format(
                *(word for pair in zip((version, live), texts, strict=True) for word in pair)
            ),
        )
    worst = max(rises, key=lambda sha256: (rises[sha256], sha256))
    words = (
        f"perplexity per word {theirs[worst].perplexity:,.2f} ({live}) -> {own[worst].perplexity:,.2f} on"
        f" {own[worst].text}, {rises[worst]:+.2%}; at most {max_rise:+.2%} on each of {len(rises)} shared text(s)"
    )
    return Verdict(passed=rises[worst] <= max_rise, words=words)


def _first(manifest: Manifest, own: dict[str, Measured]) -> Verdict:
    if own:
        listed = ", ".join(sorted(f"{each.perplexity:,.2f} on {each.text}" for each in own.values()))
        return Verdict(passed=True, words=f"the first version; perplexity per word {listed}")
    figures = manifest.evaluation.get(QUANTIZATION)
    if isinstance(figures, dict) and isinstance(rise := figures.get("perplexity_rise"), float | int):
        return Verdict(passed=True, words=f"the first version; quantizing changed its perplexity by {rise:+.2%}")
    return Verdict(passed=False, words=f"nobody evaluated {manifest.version}: {_EVALUATE}")
