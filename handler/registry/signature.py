"""The signature of a manifest: that a version is what its publisher published, whoever else can write to the bucket.

Beside the manifest lies a signature by a key that only the publisher may use (of AWS KMS, say), over a short statement
that contains the SHA-256 of the manifest's exact bytes; the manifest holds the hashes of everything else. A process
that is given the public key serves nothing without one, and asks nobody: the check needs no network.
"""

import base64
import binascii
import hashlib
import json

from handler.errors import UntrustedModelError


def statement(name: str, version: str, manifest: bytes) -> bytes:
    """What is signed: that these bytes are the manifest of this version. KMS takes up to 4,096 bytes; these are 200.

    Args:
        name: the model.
        version: its version.
        manifest: the manifest's bytes as they lie in the bucket.
    """
    said = {"name": name, "version": version, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    return b"gpt2-serverless manifest 1\n" + json.dumps(said, sort_keys=True).encode()


def check_signature(public_key: str, name: str, version: str, manifest: bytes, signature: bytes) -> None:
    """Check what lies beside a manifest against a public key.

    Which algorithm it is follows from the key, never from what lies in the bucket: RSASSA-PSS with SHA-256, or ECDSA
    with the hash that has the size of the curve.

    Args:
        public_key: PEM, or its base64 part alone, as `aws kms get-public-key` gives it.
        name: the model.
        version: its version.
        manifest: the manifest's bytes.
        signature: JSON, `{"signature": base64, ...}`.

    Raises:
        UntrustedModelError: it is no signature of this manifest by this key, or the key is none.
    """
    # Imported here because only those who sign their models need it, and it takes time.
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415

    try:
        key = load_der_public_key(base64.b64decode(_without_armour(public_key), validate=True))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UntrustedModelError(f"MODEL_PUBLIC_KEY must be a public key in PEM or base64: {error}") from error
    signed = statement(name, version, manifest)
    try:
        given = base64.b64decode(json.loads(signature)["signature"], validate=True)
        if isinstance(key, rsa.RSAPublicKey):
            sha256 = hashes.SHA256()
            key.verify(given, signed, padding.PSS(padding.MGF1(sha256), padding.PSS.AUTO), sha256)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            sizes: dict[int, hashes.HashAlgorithm] = {384: hashes.SHA384(), 521: hashes.SHA512()}
            key.verify(given, signed, ec.ECDSA(sizes.get(key.curve.key_size, hashes.SHA256())))
        else:
            raise UntrustedModelError(f"MODEL_PUBLIC_KEY must be of RSA or of an elliptic curve, not {type(key)}")
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise UntrustedModelError(
            f"{name} {version}: what lies beside its manifest is no signature: {error}"
        ) from error
    except InvalidSignature as error:
        raise UntrustedModelError(
            f"{name} {version}: its manifest is not what was signed, or was signed by another key than MODEL_PUBLIC_KEY"
        ) from error


def _without_armour(pem: str) -> str:
    """The base64 part of a PEM."""
    return "".join(line.strip() for line in pem.splitlines() if not line.startswith("-----"))
