"""Signed manifests: from a key in KMS to a process that serves nothing else, and everything that is refused."""

import base64
import json
from pathlib import Path

import boto3
import pytest

from handler.errors import AccessDeniedError, ConflictError, InvalidRequestError, UntrustedModelError
from handler.fetching import Fetching
from handler.registry.loader import ModelSource
from handler.registry.manifest import Manifest
from handler.registry.names import MANIFEST, SIGNATURE, file_key
from handler.stages import ColdStart
from lifecycle.checkpoint import Checkpoint
from lifecycle.promoting import promote
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint

SPECS = ["RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"]


@pytest.fixture
def small(tmp_path: Path) -> Checkpoint:
    return checkpoint(tmp_path / "small")


def new_key(spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY") -> tuple[str, str]:
    """A key of KMS: its ARN, and its public part as the AWS command line prints it."""
    kms = boto3.client("kms")
    arn = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]
    return arn, base64.b64encode(kms.get_public_key(KeyId=arn)["PublicKey"]).decode()


def published(store: WritableStore, small: Checkpoint, key: str | None) -> Manifest:
    manifest = publish(small.folder, store, "tiny", sign_with=key)
    promote(store, "tiny", manifest.version, "live", force=True)
    return manifest


def loaded(store: WritableStore, public_key: str) -> Manifest:
    return ModelSource(store.bucket, "tiny", "live", public_key=public_key).load().manifest


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_signed_is_loaded_by_whoever_has_the_public_key(
    store: WritableStore, small: Checkpoint, spec: str
) -> None:
    arn, public_key = new_key(spec)
    manifest = published(store, small, arn)
    assert loaded(store, public_key) == manifest
    lines = "\n".join(public_key[start : start + 64] for start in range(0, len(public_key), 64))
    assert loaded(store, f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n") == manifest
    assert loaded(store, "") == manifest
    said = json.loads(store.read(file_key("tiny", manifest.version, SIGNATURE))[0])
    assert (said.keys(), said["key"]) == ({"key", "algorithm", "signature"}, arn)


def test_what_is_not_signed_is_refused(store: WritableStore, small: Checkpoint) -> None:
    _, public_key = new_key()
    manifest = published(store, small, None)
    with pytest.raises(UntrustedModelError, match=f"tiny {manifest.version} is not signed, and MODEL_PUBLIC_KEY asks"):
        loaded(store, public_key)


def test_a_version_can_be_signed_later_and_by_another_key(store: WritableStore, small: Checkpoint) -> None:
    (first, first_public), (second, second_public) = new_key(), new_key("RSA_2048")
    manifest = published(store, small, None)
    publish(small.folder, store, "tiny", sign_with=first)
    assert loaded(store, first_public) == manifest
    publish(small.folder, store, "tiny", sign_with=second)
    assert loaded(store, second_public) == manifest
    with pytest.raises(UntrustedModelError, match="signed by another key than MODEL_PUBLIC_KEY"):
        loaded(store, first_public)


def test_a_manifest_that_was_replaced_is_refused_and_not_signed(store: WritableStore, small: Checkpoint) -> None:
    arn, public_key = new_key()
    manifest = published(store, small, arn)
    key = file_key("tiny", manifest.version, MANIFEST)
    replaced = manifest.to_json().replace(b"small-source", b"other-source")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=replaced)
    with pytest.raises(UntrustedModelError, match="its manifest is not what was signed"):
        loaded(store, public_key)
    with pytest.raises(ConflictError, match=f"{key} was published before, and is not what this folder says of itself"):
        publish(small.folder, store, "tiny", sign_with=arn)


def test_a_signature_of_another_version_is_refused(store: WritableStore, small: Checkpoint, tmp_path: Path) -> None:
    arn, public_key = new_key()
    other = publish(checkpoint(tmp_path / "other", seed=1).folder, store, "tiny", sign_with=arn)
    manifest = published(store, small, arn)
    signature, _ = store.read(file_key("tiny", other.version, SIGNATURE))
    store.client.put_object(Bucket=store.bucket, Key=file_key("tiny", manifest.version, SIGNATURE), Body=signature)
    with pytest.raises(UntrustedModelError, match="its manifest is not what was signed"):
        loaded(store, public_key)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"signature": 7}', b'{"signature": "?"}', b"\xff"])
def test_what_is_no_signature_is_refused(store: WritableStore, small: Checkpoint, content: bytes) -> None:
    arn, public_key = new_key()
    manifest = published(store, small, arn)
    key = file_key("tiny", manifest.version, SIGNATURE)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=content)
    with pytest.raises(UntrustedModelError, match="what lies beside its manifest is no signature"):
        loaded(store, public_key)


@pytest.mark.parametrize("public_key", ["nonsense", "AAAA", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"])
def test_a_public_key_that_is_none_serves_nothing(store: WritableStore, small: Checkpoint, public_key: str) -> None:
    arn, _ = new_key()
    published(store, small, arn)
    with pytest.raises(UntrustedModelError, match="MODEL_PUBLIC_KEY must be a public key in PEM or base64"):
        loaded(store, public_key)


def test_a_key_that_cannot_sign_is_told(store: WritableStore, small: Checkpoint) -> None:
    encrypting, _ = new_key("RSA_2048", "ENCRYPT_DECRYPT")
    with pytest.raises(InvalidRequestError, match="must be a key that can do one of RSASSA_PSS_SHA_256, ECDSA"):
        publish(small.folder, store, "tiny", sign_with=encrypting)
    with pytest.raises(AccessDeniedError, match="sign-with: alias/none cannot be used"):
        publish(small.folder, store, "tiny", sign_with="alias/none")


def test_a_copy_on_the_disk_that_was_kept_unchecked_is_not_used(
    store: WritableStore, small: Checkpoint, tmp_path: Path
) -> None:
    _, public_key = new_key()
    published(store, small, None)
    environment = {"MODELS_BUCKET": store.bucket, "MODEL_NAME": "tiny", "TMPDIR": str(tmp_path), "CACHE_MB": "9"}
    unchecked = Fetching(environment, ColdStart())
    unchecked.keep(unchecked.model()).join()
    with pytest.raises(UntrustedModelError, match="is not signed"):
        Fetching({**environment, "MODEL_PUBLIC_KEY": public_key}, ColdStart()).model()
