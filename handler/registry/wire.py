"""S3 over a plain HTTP connection: signed GETs whose bodies are read straight to where they belong.

A model is the one thing here large enough for the way it is read to matter. `http.client` fills a given buffer, so a
body is copied once, by the kernel: from a server on the same machine four such connections read twice as fast as
boto3 and seven times as fast as the loaders made for models. Nothing is imported for it that is not small, so the
first request leaves while the web framework is yet to be imported. Credentials and signatures are botocore's.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import botocore
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

from handler.errors import AccessDeniedError, CorruptModelError, RegistryError, StoreUnavailableError
from handler.registry.refusals import refusal

if TYPE_CHECKING:
    from ssl import SSLContext

# For a connection that hangs, not for a whole chunk: nothing has arrived for so long.
SILENCE_SECONDS = 5.0

_CODE = re.compile(rb"<Code>([^<]{1,100})</Code>")
_ERROR_BYTES = 10_000

_SDK_CERTIFICATES = Path(botocore.__file__).parent / "cacert.pem"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where a bucket answers, and by whom its requests are signed.

    Attributes:
        name: the bucket.
        url: its address, without a slash at the end.
        region: the region that signatures are made for.
        credentials: whose signature it is.
    """

    name: str
    url: str
    region: str
    credentials: Credentials

    @classmethod
    def from_environment(cls, name: str) -> "Bucket":
        """A bucket where boto3, too, would look for it: region, endpoint and credentials as the SDK reads them.

        Raises:
            AccessDeniedError: there are no credentials.
            RegistryError: no region is set.
        """
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region:
            raise RegistryError(f"s3://{name} cannot be reached: neither AWS_REGION nor AWS_DEFAULT_REGION is set")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            url = f"{endpoint.rstrip('/')}/{name}"
        else:
            domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
            # A dot in the bucket's name would be a level of its own, which Amazon's certificate does not cover.
            dotted = f"https://s3.{region}.{domain}/{name}"
            url = dotted if "." in name else f"https://{name}.s3.{region}.{domain}"
        return cls(name, url, region, _credentials(name))

    def open(self) -> "S3Reader":
        """A connection of its own, for one thread."""
        return S3Reader(self)


class S3Reader:
    """Reads objects of a bucket over one connection, kept from request to request; used by one thread at a time.

    Every method raises the `RegistryError`s of `refusals.refusal`, and `StoreUnavailableError` for whatever went
    wrong on the way: a connection refused, reset or silent for `SILENCE_SECONDS`, an answer that is not what was asked
    for. What is worth another attempt is a `StoreUnavailableError`; the connection is opened anew for it.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._signer = S3SigV4Auth(bucket.credentials, "s3", bucket.region)
        self._connection = _connect(bucket.url)

    def __enter__(self) -> "S3Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._bucket.name

    def read(self, key: str) -> tuple[bytes, str]:
        """A small object whole, and its ETag."""
        with self._answer(key, {}) as answer:
            if answer.status != 200:
                raise self._refusal(key, answer)
            return answer.read(), answer.getheader("ETag", "")

    def is_unchanged(self, key: str, etag: str) -> bool:
        """Whether an object still has this ETag; if it has, nothing of it is sent."""
        with self._answer(key, {"If-None-Match": etag}) as answer:
            if answer.status not in (200, 304):
                raise self._refusal(key, answer)
            answer.read()
            return answer.status == 304

    def read_range(
        self, key: str, start: int, into: memoryview, *, size: int, etag: str | None, begun: Callable[[str], None]
    ) -> None:
        """Fill a buffer with an object from byte `start` on.

        Args:
            key: the object.
            start: the first byte.
            into: as many bytes as are read.
            size: the size that the object must have.
            etag: the ETag that the object must have, or None for any.
            begun: told the object's ETag as soon as the answer begins.

        Raises:
            CorruptModelError: the object has another ETag.
        """
        end = start + len(into) - 1
        wanted = {"Range": f"bytes={start}-{end}"} | ({"If-Match": etag} if etag else {})
        with self._answer(key, wanted) as answer:
            if answer.status == 412:
                raise CorruptModelError(f"{self._where(key)} was replaced while it was read")
            if answer.status not in (200, 206):
                raise self._refusal(key, answer)
            promised = answer.getheader("Content-Range", "")
            if promised != f"bytes {start}-{end}/{size}":
                raise StoreUnavailableError(
                    f"{self._where(key)}: asked for bytes {start}-{end}/{size}, got {promised!r:.100}"
                )
            begun(answer.getheader("ETag", ""))
            filled = 0
            while filled < len(into) and (count := answer.readinto(into[filled:])):
                filled += count
            if filled != len(into):
                raise StoreUnavailableError(f"{self._where(key)}: {len(into)} bytes were promised, {filled} arrived")

    @contextmanager
    def _answer(self, key: str, headers: dict[str, str]) -> Iterator[HTTPResponse]:
        """Ask, and whatever happens leave the connection fit for the next request, or closed."""
        url = f"{self._bucket.url}/{key}"
        request = AWSRequest("GET", url, headers=headers)
        self._signer.add_auth(request)
        try:
            self._connection.request("GET", urlsplit(url).path, headers=dict(request.headers.items()))
            with self._connection.getresponse() as answer:
                yield answer
                if not answer.isclosed():  # what is left unread would be taken for the next answer
                    self._connection.close()
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise StoreUnavailableError(
                f"{self._where(key)}: the store did not answer as it should: {type(error).__name__}: {error}",
                retry_after=1,
            ) from error
        except RegistryError:
            self._connection.close()
            raise

    def _refusal(self, key: str, answer: HTTPResponse) -> RegistryError:
        code = _CODE.search(answer.read(_ERROR_BYTES))
        return refusal(self._where(key), answer.status, code[1].decode("latin-1") if code else "")

    def _where(self, key: str) -> str:
        return f"s3://{self._bucket.name}/{key}"


def _connect(url: str) -> HTTPConnection:
    """A connection, opened by its first request, to the host of an address."""
    parts = urlsplit(url)
    if parts.scheme == "http":
        return HTTPConnection(str(parts.hostname), parts.port, timeout=SILENCE_SECONDS)
    # The SDK's certificates, or those it, too, is told of: not every image has some of its own.
    context = _tls(os.environ.get("AWS_CA_BUNDLE") or str(_SDK_CERTIFICATES))
    return HTTPSConnection(str(parts.hostname), parts.port, timeout=SILENCE_SECONDS, context=context)


@lru_cache(maxsize=1)
def _tls(certificates: str) -> "SSLContext":
    """What a file of certificates vouches for; reading it takes 20 ms, which not every connection shall take anew."""
    import ssl  # noqa: PLC0415 - it takes time, and an endpoint on this machine does without

    return ssl.create_default_context(cafile=certificates)


def _credentials(bucket: str) -> Credentials:
    """The function's credentials: where Lambda puts them, or wherever else the SDK finds some."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN") or None)
    import botocore.session  # noqa: PLC0415 - it takes longer than the rest, and Lambda needs it only after a snapshot

    try:
        found: Credentials | None = botocore.session.get_session().get_credentials()
    except BotoCoreError as error:
        raise AccessDeniedError(f"s3://{bucket} cannot be reached without AWS credentials: {error}") from error
    if found is None:
        raise AccessDeniedError(f"s3://{bucket} cannot be reached without AWS credentials: none were found")
    return found
