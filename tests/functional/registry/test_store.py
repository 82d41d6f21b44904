"""The store: what is in the bucket is read as it is, and what is wrong is told apart and named."""

import pytest

from handler.errors import (
    CorruptModelError,
    NotInRegistryError,
)
from handler.registry.names import MANIFEST, alias_key, file_key
from lifecycle.store import WritableStore
from tests.manifests import manifest_of, put_version

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40}


def test_what_was_put_is_found(store: WritableStore) -> None:
    manifest = put_version(store, FILES)
    other = put_version(store, {"config.json": b"[]"}, alias="canary")

    assert store.models() == ["gpt2"]
    assert store.versions("gpt2") == sorted([manifest.version, other.version])
    assert store.manifest("gpt2", manifest.version) == manifest
    assert store.alias("gpt2", "live").version == manifest.version
    assert store.aliases("gpt2") == {
        "canary": store.alias("gpt2", "canary"),
        "live": store.alias("gpt2", "live"),
    }


def test_a_version_without_manifest_is_not_there(store: WritableStore) -> None:
    manifest = put_version(store, FILES)
    store.client.delete_object(Bucket=store.bucket, Key=file_key("gpt2", manifest.version, MANIFEST))

    assert store.models() == []
    assert store.versions("gpt2") == []
    with pytest.raises(
        NotInRegistryError, match=rf"s3://models-bucket/models/gpt2/versions/{manifest.version}/manifest"
    ):
        store.manifest("gpt2", manifest.version)


def test_keys_that_are_none_of_the_registrys_are_not_listed(store: WritableStore) -> None:
    manifest = put_version(store, FILES)
    for key in ("models/GPT 2/versions/v0/manifest.json", "models/gpt2/versions/latest/manifest.json", "models/x", "y"):
        store.client.put_object(Bucket=store.bucket, Key=key, Body=b"")
    assert (store.models(), store.versions("gpt2")) == (["gpt2"], [manifest.version])


def test_listings_of_several_pages_are_read_to_the_end(store: WritableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "50")  # a page, of which S3's holds 1,000
    for number in range(110):
        store.client.put_object(Bucket=store.bucket, Key=f"models/gpt2/versions/v{number:016x}/manifest.json", Body=b"")
    assert store.client.list_objects_v2(Bucket=store.bucket)["KeyCount"] == 50
    assert len(store.versions("gpt2")) == 110


@pytest.mark.parametrize("content", [b"", b"latest", b"v123", b"\xff\xfe", b"v0123456789abcdef v0123456789abcdef"])
def test_an_alias_that_holds_no_version_is_corrupt(store: WritableStore, content: bytes) -> None:
    store.client.put_object(Bucket=store.bucket, Key=alias_key("gpt2", "live"), Body=content)
    with pytest.raises(CorruptModelError, match="s3://models-bucket/models/gpt2/aliases/live must hold a version"):
        store.alias("gpt2", "live")


def test_a_manifest_in_another_versions_place_is_corrupt(store: WritableStore) -> None:
    manifest = manifest_of(FILES)
    key = file_key("gpt2", "v0123456789abcdef", MANIFEST)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=manifest.to_json())
    with pytest.raises(CorruptModelError, match=f"describes gpt2 {manifest.version}, not gpt2 v0123456789abcdef"):
        store.manifest("gpt2", "v0123456789abcdef")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd"])
def test_a_manifest_that_names_a_path_outside_is_refused(store: WritableStore, path: str) -> None:
    manifest = manifest_of({path: b"root"})  # its version is the digest of just this, so only the path is wrong
    key = file_key("gpt2", manifest.version, MANIFEST)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=manifest.to_json())
    with pytest.raises(CorruptModelError, match=f"{key}: manifest: path of a file must be a plain file name"):
        store.manifest("gpt2", manifest.version)


def test_a_missing_bucket_is_told(store: WritableStore) -> None:
    with pytest.raises(NotInRegistryError, match=r"s3://no-such-bucket/models/gpt2/aliases/live .* NoSuchBucket"):
        WritableStore(store.client, "no-such-bucket").alias("gpt2", "live")
