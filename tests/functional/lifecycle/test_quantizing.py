"""Quantizing: what comes out, what it says of itself, and what the registry refuses to take."""

import json
from pathlib import Path
from typing import Any

import pytest

from handler.errors import InvalidRequestError
from handler.inference.build import build_backend
from handler.registry.loader import ModelSource
from lifecycle.checkpoint import PROVENANCE, WEIGHTS, Checkpoint, read_checkpoint, read_json, write_json
from lifecycle.comparing import text_windows
from lifecycle.promoting import promote
from lifecycle.publishing import describe_files, publish
from lifecycle.quality import QualityError
from lifecycle.quantizing import quantize
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint
from tests.models import tiny_tokenizer


@pytest.fixture
def plain(tmp_path: Path) -> Checkpoint:
    return checkpoint(tmp_path / "plain")


@pytest.fixture
def packed(plain: Checkpoint, tmp_path: Path) -> Checkpoint:
    return quantize(plain.folder, tmp_path / "packed", 8)


def figures(checkpoint: Checkpoint) -> dict[str, Any]:
    found: dict[str, Any] = read_json(checkpoint.folder / PROVENANCE)["evaluation"]["quantization"]
    return found


def with_figures(checkpoint: Checkpoint, **changes: Any) -> None:
    """Rewrite what a checkpoint says about its quantization."""
    provenance = read_json(checkpoint.folder / PROVENANCE)
    provenance["evaluation"]["quantization"] |= changes
    write_json(checkpoint.folder / PROVENANCE, provenance)


def test_a_packed_checkpoint_says_what_it_is_and_what_it_lost(plain: Checkpoint, packed: Checkpoint) -> None:
    weights = next(file for file in describe_files(packed) if file.path == WEIGHTS)
    given = figures(packed)
    assert {key: given[key] for key in ("bits", "text", "tokens", "weights_sha256")} == {
        "bits": 8,
        "text": "written by the model itself",
        "tokens": 8 * 63,
        "weights_sha256": weights.sha256,
    }
    assert given["perplexity_after"] / given["perplexity_before"] - 1 == pytest.approx(
        given["perplexity_rise"], abs=1e-4
    )
    assert abs(given["perplexity_rise"]) < 0.01
    assert 0 < given["kl_divergence"] < 0.01
    assert 0.9 < given["top1_agreement"] <= 1
    assert (packed.layout, packed.dtype) == ("packed-int8-v1", "U8")
    assert packed.architecture == plain.architecture
    assert packed.files == plain.files


def test_it_can_be_measured_on_a_text(plain: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "held-out.txt").write_text("She said that he heard her say so. " * 80, encoding="utf-8")
    given = figures(quantize(plain.folder, tmp_path / "packed", 4, tmp_path / "held-out.txt"))
    assert (given["bits"], given["text"]) == (4, "held-out.txt")
    assert given["tokens"] > 500
    with pytest.raises(InvalidRequestError, match=r"nowhere is not a folder with at least one \*\.txt"):
        quantize(plain.folder, tmp_path / "other", 4, tmp_path / "nowhere")
    assert not (tmp_path / "other").exists()


def test_a_text_may_be_longer_than_any_prompt(tmp_path: Path) -> None:
    text = tmp_path / "held-out.txt"
    text.write_text("日" * 30_000, encoding="utf-8")
    assert len(text_windows(tiny_tokenizer(257), text, 64, tokens=90_000)) == 90_000 // 63 + 1


def test_the_same_checkpoint_packs_to_the_same_bytes(plain: Checkpoint, packed: Checkpoint, tmp_path: Path) -> None:
    again = quantize(plain.folder, tmp_path / "again", 8)
    assert describe_files(again) == describe_files(packed)


def test_what_is_packed_already_or_in_the_way_is_refused(packed: Checkpoint, plain: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="packed already, as packed-int8-v1"):
        quantize(packed.folder, tmp_path / "twice", 4)
    with pytest.raises(InvalidRequestError, match="not an empty folder"):
        quantize(plain.folder, packed.folder, 8)
    assert read_checkpoint(packed.folder) == packed


@pytest.mark.native
def test_a_packed_version_is_published_loaded_and_served(
    store: WritableStore, packed: Checkpoint, plain: Checkpoint
) -> None:
    before = publish(plain.folder, store, "tiny")
    manifest = publish(packed.folder, store, "tiny")
    promote(store, "tiny", manifest.version, "live")
    assert (manifest.layout, manifest.dtype) == ("packed-int8-v1", "U8")
    assert manifest.derived_from == before.version
    assert manifest.evaluation["quantization"] == figures(packed)
    _, backend = build_backend(
        ModelSource(store.bucket, "tiny", "live").load().files, engine="native", kv_cache_mb=10, threads=1
    )
    assert backend.name.startswith("native-int8-")
    backend.close()


def test_a_version_that_lost_too_much_is_refused(store: WritableStore, packed: Checkpoint) -> None:
    with_figures(packed, perplexity_rise=0.0123)
    with pytest.raises(QualityError, match=r"raised the perplexity by 1\.23%, and at most 1\.00% is published"):
        publish(packed.folder, store, "tiny")
    assert store.models() == []


def test_another_limit_stands_in_the_manifest(store: WritableStore, packed: Checkpoint) -> None:
    with_figures(packed, perplexity_rise=0.0123)
    manifest = publish(packed.folder, store, "tiny", max_perplexity_rise=0.02)
    assert manifest.evaluation["quantization"]["max_perplexity_rise"] == 0.02
    with pytest.raises(QualityError, match=r"at most 1\.20%"):
        publish(packed.folder, store, "tiny", max_perplexity_rise=0.012)


@pytest.mark.parametrize("rise", [None, "0.001", float("nan")])
def test_figures_that_are_none_are_refused(store: WritableStore, packed: Checkpoint, rise: object) -> None:
    with_figures(packed, perplexity_rise=rise)
    with pytest.raises(QualityError):
        publish(packed.folder, store, "tiny")


def test_figures_of_other_weights_are_refused(store: WritableStore, packed: Checkpoint) -> None:
    with_figures(packed, weights_sha256="0" * 64)
    with pytest.raises(QualityError, match="those of other weights"):
        publish(packed.folder, store, "tiny")


def test_a_packed_checkpoint_without_figures_is_refused(store: WritableStore, packed: Checkpoint) -> None:
    provenance = read_json(packed.folder / PROVENANCE)
    del provenance["evaluation"]["quantization"]
    (packed.folder / PROVENANCE).write_text(json.dumps(provenance), encoding="utf-8")
    with pytest.raises(QualityError, match="nobody measured what that cost"):
        publish(packed.folder, store, "tiny")
