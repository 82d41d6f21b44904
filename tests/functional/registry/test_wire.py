"""What S3 says, over real connections: the reader and the SDK's client understand the same by it."""

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from handler.errors import (
    AccessDeniedError,
    ConflictError,
    CorruptModelError,
    NotInRegistryError,
    RegistryError,
    StoreUnavailableError,
)
from handler.registry.s3 import translated
from lifecycle.store import WritableStore
from tests.functional.registry.s3_standin import answering, client_of, reader_of
from tests.manifests import manifest_of


def read_by_sdk(address: str) -> None:
    with translated("bucket", "some/key"):
        client_of(address).get_object(Bucket="bucket", Key="some/key")


def read_by_reader(address: str) -> None:
    with reader_of(address) as reader:
        reader.read("some/key")


def read_range(address: str) -> bytes:
    into = bytearray(2)
    with reader_of(address) as reader:
        reader.read_range("some/key", 0, memoryview(into), size=2, etag=None, begun=lambda _: None)
    return bytes(into)


@pytest.mark.parametrize("read", [read_by_sdk, read_by_reader, read_range])
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", AccessDeniedError),
        (403, "InvalidAccessKeyId", AccessDeniedError),
        (403, "RequestTimeTooSkewed", AccessDeniedError),
        (400, "ExpiredToken", AccessDeniedError),
        (404, "NoSuchKey", NotInRegistryError),
        (404, "NoSuchBucket", NotInRegistryError),
        (409, "ConditionalRequestConflict", ConflictError),
        (416, "InvalidRange", CorruptModelError),
        (500, "InternalError", StoreUnavailableError),
        (503, "SlowDown", StoreUnavailableError),
        (400, "RequestTimeout", StoreUnavailableError),
        (400, "InvalidArgument", RegistryError),
    ],
)
def test_what_s3_answers_is_told_apart(
    read: Callable[[str], None], status: int, code: str, expected: type[RegistryError]
) -> None:
    body = f"<Error><Code>{code}</Code><Message>said S3</Message></Error>".encode()
    with answering(status, body) as address, pytest.raises(RegistryError) as caught:
        read(address)
    assert type(caught.value) is expected
    assert "s3://bucket/some/key" in caught.value.message
    assert f"{status} {code}" in caught.value.message


@pytest.mark.parametrize(("status", "expected"), [(403, AccessDeniedError), (404, NotInRegistryError)])
def test_refusal_and_absence_are_told_apart_without_a_body(status: int, expected: type[RegistryError]) -> None:
    """The answer to a HEAD has no body, so there is no code in it."""
    manifest = manifest_of({"config.json": b"{}"})
    with answering(status, b"") as address, pytest.raises(expected) as caught:
        WritableStore(client_of(address), "bucket").etag(manifest, manifest.files[0])
    assert f"s3://bucket/models/gpt2/versions/{manifest.version}/config.json" in caught.value.message


@pytest.mark.parametrize("read", [read_by_sdk, read_by_reader, read_range])
def test_a_store_that_nobody_runs_is_unavailable(read: Callable[[str], None]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(StoreUnavailableError, match="s3://bucket/some/key: the store did not answer as it should"):
        read(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("read", [read_by_reader, read_range])
def test_a_name_that_nobody_has_is_unavailable(read: Callable[[str], None]) -> None:
    with pytest.raises(StoreUnavailableError, match="s3://bucket/some/key: the store did not answer as it should"):
        read("http://nobody.invalid")


def test_a_range_lands_in_its_place() -> None:
    with answering(206, b"{}", Content_Range="bytes 0-1/2") as address:
        assert read_range(address) == b"{}"


def test_a_body_that_ends_early_is_worth_another_attempt() -> None:
    with (
        answering(206, b"{", Content_Range="bytes 0-1/2", Content_Length="2") as address,
        pytest.raises(StoreUnavailableError, match="2 bytes were promised"),
    ):
        read_range(address)


@pytest.mark.parametrize("status", [200, 206])
@pytest.mark.parametrize("content_range", ["bytes 0-1/3", "bytes 1-2/2", ""])
def test_another_range_than_the_one_asked_for_is_not_taken(content_range: str, status: int) -> None:
    with (
        answering(status, b"{}", Content_Range=content_range) as address,
        pytest.raises(StoreUnavailableError, match=f"asked for bytes 0-1/2, got '{content_range}'"),
    ):
        read_range(address)


def test_a_replaced_object_is_told() -> None:
    with answering(412, b"") as address, pytest.raises(CorruptModelError, match="was replaced while it was read"):
        read_range(address)


@pytest.mark.parametrize(("status", "unchanged"), [(200, False), (304, True)])
def test_an_etag_is_asked_about(status: int, unchanged: bool) -> None:
    with answering(status, b"" if status == 304 else b"v1") as address, reader_of(address) as reader:
        assert reader.is_unchanged("some/key", '"etag"') is unchanged


def test_missing_credentials_are_told_by_the_sdk_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessDeniedError, match="cannot be reached without AWS credentials"):
        WritableStore(boto3.Session().client("s3"), "bucket").alias("gpt2", "live")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate by which this machine vouches for itself, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "store.pem"
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(text + certificate.public_bytes(Encoding.PEM))
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """What a server speaks TLS with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def test_a_store_is_read_over_tls_if_somebody_vouches_for_it(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with answering(206, b"{}", tls, Content_Range="bytes 0-1/2") as address:
        assert [read_range(address) for _ in range(2)] == [b"{}"] * 2


def test_a_store_that_nobody_vouches_for_is_not_read(tls: ssl.SSLContext) -> None:
    with (
        answering(206, b"{}", tls, Content_Range="bytes 0-1/2") as address,
        pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        read_range(address)
