"""The model on its way: fetched from what the environment says, once, and again when it is asked for again."""

import os
from pathlib import Path

import pytest

from handler.errors import NotInRegistryError
from handler.fetching import CACHE_FOLDER, Fetching
from handler.settings import Settings
from handler.stages import ColdStart
from lifecycle.store import WritableStore
from tests.manifests import put_version

FILES = {"config.json": b"{}", "model.safetensors": bytes(10_000)}


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"MODELS_BUCKET": "models-bucket", "MODEL_NAME": "gpt2", "TMPDIR": str(tmp_path), **more}


def test_what_was_started_is_handed_over_and_then_fetched_anew(store: WritableStore, tmp_path: Path) -> None:
    first = put_version(store, FILES)
    fetching, cold_start = Fetching(environment(tmp_path), ColdStart()), ColdStart()
    fetching.start().result()
    second = put_version(store, {"config.json": b"[]"})

    assert fetching.model().manifest == first
    assert fetching.model().manifest == second
    assert cold_start.stages == {}


def test_a_failure_is_told_and_the_next_attempt_is_a_new_one(store: WritableStore, tmp_path: Path) -> None:
    fetching = Fetching(environment(tmp_path), ColdStart())
    fetching.start()
    with pytest.raises(NotInRegistryError):
        fetching.model()
    manifest = put_version(store, FILES)
    assert fetching.model().manifest == manifest


def test_stages_are_told(store: WritableStore, tmp_path: Path) -> None:
    put_version(store, FILES)
    cold_start = ColdStart()
    Fetching(environment(tmp_path), cold_start).model()
    assert list(cold_start.stages) == ["first_range", "first_byte", "transfer", "verification"]


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"CACHE_MB": "1"}, True),
        ({"CACHE_MB": "0"}, False),
        ({}, False),
        ({"CACHE_MB": "many"}, False),
        ({"CACHE_MB": "1", "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}, False),
    ],
)
def test_a_copy_is_kept_where_there_is_room_and_no_snapshot(
    store: WritableStore, tmp_path: Path, more: dict[str, str], kept: bool
) -> None:
    manifest = put_version(store, FILES)
    fetching = Fetching(environment(tmp_path, **more), ColdStart())
    fetching.keep(fetching.model()).join()
    copies = [path.name for path in tmp_path.glob(f"{CACHE_FOLDER}/*")]
    assert copies == ([manifest.version] if kept else [])


def test_the_environment_means_what_the_settings_say(
    store: WritableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its defaults are those of `Settings`, which it cannot import: that takes longer than the first request may."""
    for name, value in environment(tmp_path, KEYS_TABLE="keys").items():
        monkeypatch.setenv(name, value)
    manifest = put_version(store, FILES, alias=Settings.from_environment(os.environ).model_alias)
    fetching = Fetching(environment(tmp_path), ColdStart())
    assert fetching.model().manifest == manifest
    assert (Settings.from_environment(os.environ).cache_mb, list(tmp_path.iterdir())) == (0, [])
