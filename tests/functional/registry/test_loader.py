"""From an alias to a model, over real connections to moto's S3, and from the copy on the disk."""

import threading
from pathlib import Path

import pytest

from handler.errors import AccessDeniedError, CorruptModelError, NotInRegistryError, RegistryError
from handler.registry.cache import LocalCache
from handler.registry.loader import LoadedModel, ModelSource
from handler.registry.names import alias_key, file_key
from lifecycle.store import WritableStore
from tests.manifests import CHUNK_SIZE, put_version

WEIGHTS = b"".join(number.to_bytes(4, "little") for number in range(10_000))  # 40,000 bytes, 10 chunks, no two alike
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": bytes(CHUNK_SIZE)}


def load(alias: str = "live", cache: LocalCache | None = None, name: str = "gpt2") -> LoadedModel:
    return ModelSource("models-bucket", name, alias, cache).load(sleep=lambda _seconds: None)


def contents(model: LoadedModel) -> dict[str, bytes]:
    return {path: bytes(data) for path, data in model.files.items()}


def test_every_file_arrives_whole(store: WritableStore) -> None:
    manifest = put_version(store, FILES)
    model = load()
    assert (model.manifest, contents(model)) == (manifest, FILES)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("load-model")] == []


@pytest.mark.parametrize("data", [WEIGHTS[:-1], WEIGHTS + b"!"])
def test_an_object_of_another_size_is_not_loaded(store: WritableStore, data: bytes) -> None:
    manifest = put_version(store, FILES)
    key = file_key("gpt2", manifest.version, "model.safetensors")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=data)
    with pytest.raises(RegistryError, match=r"model\.safetensors: asked for bytes 0-4095/40000, got 'bytes 0-4095/"):
        load()


def test_a_wrong_byte_in_the_store_is_never_loaded(store: WritableStore) -> None:
    manifest = put_version(store, FILES)
    key = file_key("gpt2", manifest.version, "model.safetensors")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=WEIGHTS[:-1] + b"!")
    with pytest.raises(CorruptModelError, match=r"model\.safetensors, bytes 36864 to 39999 do not have the SHA-256"):
        load()


@pytest.mark.parametrize("path", ["config.json", "model.safetensors", "manifest.json"])
def test_a_missing_file_is_named(store: WritableStore, path: str) -> None:
    manifest = put_version(store, FILES)
    store.client.delete_object(Bucket=store.bucket, Key=file_key("gpt2", manifest.version, path))
    with pytest.raises(NotInRegistryError, match=f"{manifest.version}/{path} does not exist"):
        load()


def test_a_missing_alias_is_named(store: WritableStore) -> None:
    put_version(store, FILES)
    with pytest.raises(NotInRegistryError, match="s3://models-bucket/models/gpt2/aliases/canary does not exist"):
        load("canary")


def test_an_alias_to_an_unpublished_version_is_told(store: WritableStore) -> None:
    store.client.put_object(Bucket=store.bucket, Key=alias_key("gpt2", "live"), Body=b"v0123456789abcdef")
    with pytest.raises(NotInRegistryError, match=r"versions/v0123456789abcdef/manifest\.json does not exist"):
        load()


@pytest.mark.parametrize("missing", [["AWS_SECRET_ACCESS_KEY"], ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]])
def test_nobody_without_credentials_is_served(
    store: WritableStore, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in missing:
        monkeypatch.delenv(name)
    with pytest.raises(AccessDeniedError, match="s3://models-bucket cannot be reached without AWS credentials"):
        load()


def test_a_region_is_needed(store: WritableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(RegistryError, match="neither AWS_REGION nor AWS_DEFAULT_REGION is set"):
        load()


@pytest.fixture
def cache(tmp_path: Path) -> LocalCache:
    return LocalCache(tmp_path / "models", max_bytes=100_000)


def keep(cache: LocalCache, alias: str = "live") -> bool:
    source = ModelSource("models-bucket", "gpt2", alias, cache)
    return source.keep(source.load())


def take_away_the_files(store: WritableStore, version: str) -> None:
    """From now on only the alias is left in the bucket."""
    for path in (*FILES, "manifest.json"):
        store.client.delete_object(Bucket=store.bucket, Key=file_key("gpt2", version, path))


def test_a_second_process_reads_the_copy_alone(store: WritableStore, cache: LocalCache) -> None:
    manifest = put_version(store, FILES)
    assert keep(cache)
    take_away_the_files(store, manifest.version)

    model = load(cache=cache)
    assert (model.manifest, contents(model)) == (manifest, FILES)


def test_a_copy_of_what_the_alias_has_left_is_not_used(store: WritableStore, cache: LocalCache, tmp_path: Path) -> None:
    put_version(store, FILES)
    assert keep(cache)
    newer = put_version(store, {"config.json": b"[]"})

    assert contents(load(cache=cache)) == {"config.json": b"[]"}
    assert keep(cache)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [newer.version]


@pytest.mark.parametrize("damage", [b"", WEIGHTS[:-1], WEIGHTS[:-1] + b"!", None])
def test_a_damaged_copy_is_thrown_away_and_read_anew(
    store: WritableStore, cache: LocalCache, tmp_path: Path, damage: bytes | None
) -> None:
    manifest = put_version(store, FILES)
    assert keep(cache)
    weights = tmp_path / "models" / manifest.version / "model.safetensors"
    if damage is None:
        weights.unlink()
    else:
        weights.write_bytes(damage)

    assert contents(load(cache=cache)) == FILES
    assert list((tmp_path / "models").iterdir()) == []
