"""Evaluations: kept beside the version whose bytes they are of, now or later, and refused where they are of others."""

from pathlib import Path

import pytest

from handler.errors import CorruptModelError
from lifecycle.checkpoint import Checkpoint
from lifecycle.evaluations import Measured, evaluations, measured
from lifecycle.publishing import publish
from lifecycle.quality import QualityError
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint
from tests.evaluations import evaluated
from tests.manifests import sha256


@pytest.fixture
def small(tmp_path: Path) -> Checkpoint:
    return checkpoint(tmp_path / "small")


def test_an_evaluation_is_kept_with_the_version_and_may_come_later(store: WritableStore, small: Checkpoint) -> None:
    version = publish(small.folder, store, "tiny").version
    assert evaluations(store, "tiny", version) == []

    publish(evaluated(small, {"emma": 700.0}).folder, store, "tiny")
    publish(evaluated(small, {"emma": 701.0}, created="2026-11-25T12:00:00+00:00").folder, store, "tiny")
    publish(small.folder, store, "tiny")
    assert [each.figures["emma"]["perplexity_per_word"] for each in evaluations(store, "tiny", version)] == [700, 701]
    assert measured(store, "tiny", version) == {sha256(b"emma"): Measured("emma", 701.0)}


def test_an_evaluation_of_other_bytes_is_refused(store: WritableStore, small: Checkpoint) -> None:
    evaluated(small, {"emma": 700.0})
    (small.folder / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": 0}')
    with pytest.raises(QualityError, match=r"evaluation\.json is an evaluation of v.{16}, and the folder holds v.{16}"):
        publish(small.folder, store, "tiny")
    assert store.keys_below("") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no evaluation"),
        ('{"version": "v1", "created": "now", "texts": [{"name": "a"}], "figures": {}}', "KeyError: 'sha256'"),
        (
            '{"version": "v1", "created": "now", "texts": [{"name": "a", "sha256": "0"}], "figures": {"a": {}}}',
            "KeyError: 'perplexity_per_word'",
        ),
        (
            '{"version":"","created":"","texts":[{"name":"a","sha256":""}],"figures":{"a":{"perplexity_per_word":NaN}}}',
            "perplexity_per_word must be a positive number, not nan",
        ),
        ('{"version": 1, "created": "now", "texts": [], "figures": {}}', "must be strings"),
    ],
)
def test_a_damaged_evaluation_is_refused(store: WritableStore, small: Checkpoint, content: str, message: str) -> None:
    (small.folder / "evaluation.json").write_text(content)
    with pytest.raises(CorruptModelError, match=message):
        publish(small.folder, store, "tiny")
    assert store.keys_below("") == []
