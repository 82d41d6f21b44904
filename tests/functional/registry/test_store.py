"""The store: what is in the bucket is read as it is, and what is wrong is told apart and named."""

import socket

import boto3
import pytest

from handler.errors import (
    AccessDeniedError,
    ConflictError,
    CorruptModelError,
    NotInRegistryError,
    RegistryError,
    StoreUnavailableError,
)
from handler.registry.names import MANIFEST, alias_key, file_key
from handler.registry.s3 import translated
from handler.registry.store import ModelStore
from tests.functional.registry.s3_standin import answering, client_of
from tests.manifests import manifest_of, put_version

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40}


def test_what_was_put_is_found(store: ModelStore) -> None:
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


def test_a_version_without_manifest_is_not_there(store: ModelStore) -> None:
    manifest = put_version(store, FILES)
    store.client.delete_object(Bucket=store.bucket, Key=file_key("gpt2", manifest.version, MANIFEST))

    assert store.models() == []
    assert store.versions("gpt2") == []
    with pytest.raises(
        NotInRegistryError, match=rf"s3://models-bucket/models/gpt2/versions/{manifest.version}/manifest"
    ):
        store.manifest("gpt2", manifest.version)


def test_keys_that_are_none_of_the_registrys_are_not_listed(store: ModelStore) -> None:
    manifest = put_version(store, FILES)
    for key in ("models/GPT 2/versions/v0/manifest.json", "models/gpt2/versions/latest/manifest.json", "models/x", "y"):
        store.client.put_object(Bucket=store.bucket, Key=key, Body=b"")
    assert (store.models(), store.versions("gpt2")) == (["gpt2"], [manifest.version])


def test_listings_of_several_pages_are_read_to_the_end(store: ModelStore) -> None:
    for number in range(1100):  # S3 lists 1,000 keys a page
        store.client.put_object(Bucket=store.bucket, Key=f"models/gpt2/versions/v{number:016x}/manifest.json", Body=b"")
    assert len(store.versions("gpt2")) == 1100


@pytest.mark.parametrize("content", [b"", b"latest", b"v123", b"\xff\xfe", b"v0123456789abcdef v0123456789abcdef"])
def test_an_alias_that_holds_no_version_is_corrupt(store: ModelStore, content: bytes) -> None:
    store.client.put_object(Bucket=store.bucket, Key=alias_key("gpt2", "live"), Body=content)
    with pytest.raises(CorruptModelError, match="s3://models-bucket/models/gpt2/aliases/live must hold a version"):
        store.alias("gpt2", "live")


def test_a_manifest_in_another_versions_place_is_corrupt(store: ModelStore) -> None:
    manifest = manifest_of(FILES)
    key = file_key("gpt2", "v0123456789abcdef", MANIFEST)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=manifest.to_json())
    with pytest.raises(CorruptModelError, match=f"describes gpt2 {manifest.version}, not gpt2 v0123456789abcdef"):
        store.manifest("gpt2", "v0123456789abcdef")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd"])
def test_a_manifest_that_names_a_path_outside_is_refused(store: ModelStore, path: str) -> None:
    manifest = manifest_of({path: b"root"})  # its version is the digest of just this, so only the path is wrong
    key = file_key("gpt2", manifest.version, MANIFEST)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=manifest.to_json())
    with pytest.raises(CorruptModelError, match=f"{key}: manifest: path of a file must be a plain file name"):
        store.manifest("gpt2", manifest.version)


def test_a_missing_bucket_is_told(store: ModelStore) -> None:
    with pytest.raises(NotInRegistryError, match=r"s3://no-such-bucket/models/gpt2/aliases/live .* NoSuchBucket"):
        ModelStore(store.client, "no-such-bucket").alias("gpt2", "live")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", AccessDeniedError),
        (403, "InvalidAccessKeyId", AccessDeniedError),
        (400, "ExpiredToken", AccessDeniedError),
        (404, "NoSuchKey", NotInRegistryError),
        (404, "NoSuchBucket", NotInRegistryError),
        (412, "PreconditionFailed", ConflictError),
        (409, "ConditionalRequestConflict", ConflictError),
        (416, "InvalidRange", CorruptModelError),
        (500, "InternalError", StoreUnavailableError),
        (503, "SlowDown", StoreUnavailableError),
        (400, "RequestTimeout", StoreUnavailableError),
        (400, "InvalidArgument", RegistryError),
    ],
)
def test_what_s3_answers_is_told_apart(status: int, code: str, expected: type[RegistryError]) -> None:
    body = f"<Error><Code>{code}</Code><Message>said S3</Message></Error>".encode()
    with answering(status, body) as client, pytest.raises(RegistryError) as caught, translated("bucket", "some/key"):
        client.get_object(Bucket="bucket", Key="some/key")
    assert type(caught.value) is expected
    assert "s3://bucket/some/key" in caught.value.message
    assert f"{status} {code}" in caught.value.message


@pytest.mark.parametrize(("status", "expected"), [(403, AccessDeniedError), (404, NotInRegistryError)])
def test_refusal_and_absence_are_told_apart_without_a_body(status: int, expected: type[RegistryError]) -> None:
    """The answer to a HEAD has no body, so there is no code in it."""
    manifest = manifest_of(FILES)
    with answering(status, b"") as client, pytest.raises(expected) as caught:
        ModelStore(client, "bucket").etag(manifest, manifest.files[0])
    assert f"s3://bucket/models/gpt2/versions/{manifest.version}/config.json" in caught.value.message


def test_a_store_that_nobody_runs_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(StoreUnavailableError, match="s3://bucket/models/gpt2/aliases/live: the store did not answer"):
        ModelStore(client_of(port), "bucket").alias("gpt2", "live")


def test_a_body_that_ends_early_is_worth_another_attempt() -> None:
    manifest = manifest_of(FILES)
    headers = {"Content_Range": "bytes 0-1/2", "Content_Length": "2"}
    with answering(206, b"{", **headers) as client, pytest.raises(StoreUnavailableError, match=r"config\.json"):
        ModelStore(client, "bucket").read_range(manifest, manifest.files[0], '"etag"', 0, memoryview(bytearray(2)))


@pytest.mark.parametrize("content_range", ["bytes 0-1/3", "bytes 1-2/2", ""])
def test_another_range_than_the_one_asked_for_is_not_taken(content_range: str) -> None:
    manifest = manifest_of(FILES)
    with (
        answering(206, b"{}", Content_Range=content_range) as client,
        pytest.raises(StoreUnavailableError, match=f"asked for bytes 0-1/2, got 2 of '{content_range}'"),
    ):
        ModelStore(client, "bucket").read_range(manifest, manifest.files[0], '"etag"', 0, memoryview(bytearray(2)))


def test_missing_credentials_are_told(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = boto3.Session()
    with pytest.raises(AccessDeniedError, match="cannot be reached without AWS credentials"):
        ModelStore(session.client("s3"), "bucket").alias("gpt2", "live")
