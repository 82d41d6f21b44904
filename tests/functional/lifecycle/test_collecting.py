"""Garbage collection: what goes, what stays and why, and what happens when somebody promotes meanwhile."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from handler.errors import ConflictError, InvalidRequestError
from handler.registry.loader import ModelSource
from handler.registry.names import MANIFEST, file_key
from lifecycle.collecting import Garbage, collect, find_garbage
from lifecycle.promoting import promote, rollback
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint
from tests.evaluations import evaluated
from tests.functional.lifecycle.meddling import InterruptedPublisherError, interrupt, meddled

LATER = datetime.now(UTC) + timedelta(days=2)


@pytest.fixture
def versions(store: WritableStore, tmp_path: Path) -> list[str]:
    return [
        publish(evaluated(checkpoint(tmp_path / f"c{seed}", seed=seed), {"emma": 700.0}).folder, store, "tiny").version
        for seed in range(5)
    ]


def keys(store: WritableStore) -> list[str]:
    return [each.key for each in store.objects_below("models/tiny/") if "/history/" not in each.key]


def test_what_nothing_needs_goes_and_leaves_nothing(store: WritableStore, versions: list[str]) -> None:
    for version in versions[:4]:
        promote(store, "tiny", version, "live")
    promote(store, "tiny", versions[1], "canary")
    garbage = find_garbage(store, "tiny", keep=2, now=LATER)
    assert garbage == Garbage(
        versions=tuple(sorted([versions[0], versions[4]])),
        unfinished=(),
        uploads=(),
        kept={
            versions[1]: "canary points to it",
            versions[2]: "live may be taken back to it",
            versions[3]: "live points to it",
        },
    )
    assert collect(store, "tiny", garbage) == []
    assert store.versions("tiny") == sorted(versions[1:4])
    assert not [key for key in keys(store) if versions[0] in key or versions[4] in key]
    assert rollback(store, "tiny", "live").version == versions[2]
    assert find_garbage(store, "tiny", keep=2, now=LATER).is_empty


def test_what_an_alias_can_be_taken_back_to_stays_however_little_is_kept(
    store: WritableStore, versions: list[str]
) -> None:
    for version in versions[:3]:
        promote(store, "tiny", version, "live")
    rollback(store, "tiny", "live")
    assert set(find_garbage(store, "tiny", keep=1, now=LATER).versions) == {versions[2], *versions[3:]}
    with pytest.raises(InvalidRequestError, match="keep must be 1 or more, not 0"):
        find_garbage(store, "tiny", keep=0)


def test_what_was_just_written_or_just_left_stays(store: WritableStore, versions: list[str]) -> None:
    for version in versions:
        promote(store, "tiny", version, "live")
    since = datetime.now(UTC) + timedelta(days=1) - timedelta(minutes=1)
    garbage = find_garbage(store, "tiny", keep=1, now=since)
    assert garbage.is_empty
    assert garbage.kept[versions[0]].startswith("live pointed to it until 20")
    fresh = find_garbage(store, "tiny", keep=1)
    assert fresh.is_empty


def test_half_published_versions_and_unfinished_uploads_go(store: WritableStore, tmp_path: Path) -> None:
    large = checkpoint(tmp_path / "large", n_embd=320, n_layer=4, n_positions=512)
    with pytest.raises(InterruptedPublisherError):
        publish(large.folder, meddled(store, "complete_multipart_upload", 1, interrupt), "tiny")
    small = publish(checkpoint(tmp_path / "small").folder, store, "tiny")
    store.delete(file_key("tiny", small.version, MANIFEST))

    now = find_garbage(store, "tiny")
    assert (now.versions, now.unfinished) == ((), ())
    later = find_garbage(store, "tiny", now=LATER)
    assert later.versions == ()
    assert len(later.unfinished) == 2
    assert [key.rpartition("/")[2] for key, _ in later.uploads] == ["model.safetensors"]
    assert collect(store, "tiny", later) == []
    assert collect(store, "tiny", later) == []  # somebody else has done it: no harm
    assert keys(store) == []
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)


def test_a_version_that_is_promoted_before_it_is_withdrawn_stays(store: WritableStore, versions: list[str]) -> None:
    promote(store, "tiny", versions[0], "live")
    garbage = find_garbage(store, "tiny", now=LATER)
    assert versions[1] in garbage.versions
    promote(store, "tiny", versions[1], "live")
    assert collect(store, "tiny", garbage) == [versions[1]]
    assert ModelSource(store.bucket, "tiny", "live").load().manifest.version == versions[1]
    assert store.versions("tiny") == sorted(versions[:2])


def test_a_version_that_is_promoted_after_it_is_withdrawn_is_told_and_the_alias_stays(
    store: WritableStore, versions: list[str]
) -> None:
    """The promoter has seen every file, and moves the alias when the collection has looked at it already."""
    promote(store, "tiny", versions[0], "live")
    garbage = find_garbage(store, "tiny", now=LATER)
    overtaken = meddled(store, "put_object", 2, lambda: collect(store, "tiny", garbage))
    with pytest.raises(ConflictError, match="removed by a garbage collection"):
        promote(overtaken, "tiny", versions[1], "live")
    assert ModelSource(store.bucket, "tiny", "live").load().manifest.version == versions[0]


def test_a_version_that_is_promoted_while_it_is_withdrawn_is_put_back(
    store: WritableStore, versions: list[str]
) -> None:
    """The alias moves between the manifest's going and the look at the aliases."""
    promote(store, "tiny", versions[0], "live")
    garbage = find_garbage(store, "tiny", now=LATER)
    moved: list[str] = []

    def move() -> None:
        if not moved:
            moved.append(versions[1])
            alias = store.alias("tiny", "live")
            store.client.put_object(
                Bucket=store.bucket, Key="models/tiny/aliases/live", Body=versions[1].encode(), IfMatch=alias.etag
            )

    only = Garbage((versions[1],), (), (), {})
    assert versions[1] in garbage.versions
    assert collect(meddled(store, "delete_object", 1, move, after=True), "tiny", only) == [versions[1]]
    assert ModelSource(store.bucket, "tiny", "live").load().manifest.version == versions[1]
