"""The copy on the disk: a convenience that is never in the way."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from handler.registry.cache import LocalCache
from handler.registry.manifest import Manifest
from handler.registry.store import AliasState
from tests.manifests import manifest_of

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40}
MANIFEST = manifest_of(FILES)
STATE = AliasState(MANIFEST.version, '"etag"')


def keep(cache: LocalCache, manifest: Manifest = MANIFEST, files: dict[str, bytes] = FILES) -> bool:
    state = AliasState(manifest.version, '"etag"')
    return cache.keep("bucket", "live", state, manifest, {path: memoryview(data) for path, data in files.items()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def cache(folder: Path) -> LocalCache:
    return LocalCache(folder, max_bytes=20_000)


def test_what_was_kept_is_found(cache: LocalCache, folder: Path) -> None:
    assert cache.find("bucket", "gpt2", "live") is None
    assert keep(cache)
    copy = cache.find("bucket", "gpt2", "live")
    assert copy is not None
    assert (copy.folder, copy.alias, copy.manifest) == (folder / MANIFEST.version, STATE, MANIFEST)


@pytest.mark.parametrize(
    "asked", [("other", "gpt2", "live"), ("bucket", "other", "live"), ("bucket", "gpt2", "canary")]
)
def test_a_copy_belongs_to_its_bucket_name_and_alias(cache: LocalCache, asked: tuple[str, str, str]) -> None:
    assert keep(cache)
    assert cache.find(*asked) is None


def test_the_next_version_takes_the_place_of_the_last(cache: LocalCache, folder: Path) -> None:
    newer = manifest_of({"config.json": b"[]"})
    assert keep(cache)
    assert keep(cache, newer, {"config.json": b"[]"})
    assert [path.name for path in folder.iterdir()] == [newer.version]


def test_what_is_too_large_is_not_kept(folder: Path) -> None:
    assert not keep(LocalCache(folder, max_bytes=10_000))
    assert not folder.exists()


def test_a_disk_that_takes_nothing_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    assert not keep(LocalCache(tmp_path / "models", max_bytes=20_000))
    assert not keep(LocalCache(tmp_path / "no" / "such" / "parent", max_bytes=20_000))


def test_a_full_disk_leaves_nothing_behind(cache: LocalCache, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert not keep(cache)
    assert list(folder.iterdir()) == []


def test_processes_that_write_at_once_leave_one_whole_copy(cache: LocalCache, folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: keep(cache), range(16)))
    assert any(kept)
    assert [path.name for path in folder.iterdir()] == [MANIFEST.version]
    written = {path.name: path.read_bytes() for path in (folder / MANIFEST.version).iterdir()}
    assert {path: written[path] for path in FILES} == FILES


def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_writes_is_not(
    cache: LocalCache, folder: Path
) -> None:
    living = folder / f".unfinished-{os.getppid()}-0a0a0a0a"
    for left in (folder / ".unfinished-99999999-0a0a0a0a", living):
        left.mkdir(parents=True)
        (left / "model.safetensors").write_bytes(b"half")
    assert keep(cache)
    assert sorted(path.name for path in folder.iterdir()) == sorted([living.name, MANIFEST.version])


@pytest.mark.parametrize("damaged", ["alias.json", "manifest.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "null", json.dumps({"bucket": "bucket", "alias": "live"})])
def test_a_copy_that_does_not_say_what_it_is_is_none(
    cache: LocalCache, folder: Path, damaged: str, content: str
) -> None:
    assert keep(cache)
    (folder / MANIFEST.version / damaged).write_text(content)
    assert cache.find("bucket", "gpt2", "live") is None


def test_a_folder_of_somebody_elses_is_not_believed(
    cache: LocalCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keep(cache)
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert cache.find("bucket", "gpt2", "live") is None
