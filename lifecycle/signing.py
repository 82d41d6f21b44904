"""Sign a version's manifest with an asymmetric key of AWS KMS, which never leaves it."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from handler.errors import AccessDeniedError, ConflictError, InvalidRequestError, NotInRegistryError
from handler.registry.manifest import Manifest
from handler.registry.names import MANIFEST, SIGNATURE, file_key
from handler.registry.signature import statement
from lifecycle.store import WritableStore
from lifecycle.uploading import put

# The first of these that the key can do. Who checks goes by the key: see `signature.check_signature`.
ALGORITHMS: Final = ("RSASSA_PSS_SHA_256", "ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512")


def sign(store: WritableStore, ours: Manifest, key_arn: str) -> None:
    """Put a signature beside a version's manifest, in place of an earlier one.

    Args:
        store: the bucket.
        ours: the manifest as the folder that was published has it. Nothing else is signed: who published these files
            before may have written another manifest for them.
        key_arn: the key, by its ARN, id or alias.

    Raises:
        ConflictError: the manifest in the bucket says something else, or somebody else signs it now.
        AccessDeniedError: the key may not be used, or does not exist.
        InvalidRequestError: it is no key to sign with.
    """
    key = file_key(ours.name, ours.version, MANIFEST)
    data, _ = store.read(key)
    theirs = Manifest.from_json(data)
    if replace(theirs, created=ours.created) != Manifest.from_json(ours.to_json()):
        raise ConflictError(
            f"s3://{store.bucket}/{key} was published before, and is not what this folder says of itself: not signed"
        )
    where = file_key(ours.name, ours.version, SIGNATURE)
    try:
        etag = store.read(where)[1]
    except NotInRegistryError:
        etag = None
    put(store, where, _signature(key_arn, statement(ours.name, ours.version, data)), etag=etag)


def public_key(key_arn: str) -> str:
    """The public part of a key, in base64: what MODEL_PUBLIC_KEY takes.

    Raises:
        AccessDeniedError: the key may not be looked at, or does not exist.
        InvalidRequestError: it is no key to sign with.
    """
    return base64.b64encode(_described(key_arn)["PublicKey"]).decode()


def _described(key_arn: str) -> Any:
    """What KMS says of a key that can sign."""
    with _using(key_arn):
        key: Any = boto3.client("kms").get_public_key(KeyId=key_arn)
    if not set(ALGORITHMS) & set(key.get("SigningAlgorithms", ())):
        raise InvalidRequestError(
            f"sign-with: {key_arn} must be a key that can do one of {', '.join(ALGORITHMS)}", param="sign-with"
        )
    return key


def _signature(key_arn: str, message: bytes) -> bytes:
    offered = _described(key_arn)["SigningAlgorithms"]
    algorithm = next(each for each in ALGORITHMS if each in offered)
    with _using(key_arn):
        signed: Any = boto3.client("kms").sign(
            KeyId=key_arn, Message=message, MessageType="RAW", SigningAlgorithm=algorithm
        )
    signature = base64.b64encode(signed["Signature"]).decode()
    return json.dumps({"key": signed["KeyId"], "algorithm": algorithm, "signature": signature}).encode()


@contextmanager
def _using(key_arn: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise AccessDeniedError(f"sign-with: {key_arn} cannot be used: {error}") from error
