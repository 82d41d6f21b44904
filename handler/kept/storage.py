"""The results bucket: objects that are created once, and replaced only where nobody else did.

Everything the service keeps lies there, and nothing else does: conditional writes take the place of a database.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from handler.errors import ConflictError, NotInRegistryError, RegistryError, StorageUnavailableError
from handler.registry.s3 import s3_client, translated
from handler.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Throttled and failed requests are tried again by boto3, with jitter between; five attempts take 15 seconds at most.
ATTEMPTS = 5

# boto3 makes clients in one thread at a time.
MAKING_CLIENTS = threading.Lock()


class _Condition(TypedDict, total=False):
    IfMatch: str


@dataclass(frozen=True, slots=True)
class Described:
    """An object's size in bytes, and the ETag that tells its content from another."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, and the ETag by which it can be replaced if nobody else did."""

    data: bytes
    etag: str


class Storage:
    """One bucket. Every method raises StorageUnavailableError when S3 does not do as it is asked."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def fetch(self, key: str) -> Stored | None:
        """An object whole, or None where there is none."""
        with available():
            try:
                with translated(self.bucket, key):
                    answer = self.client.get_object(Bucket=self.bucket, Key=key)
                    return Stored(answer["Body"].read(), answer["ETag"])
            except NotInRegistryError:
                return None

    def read(self, key: str) -> bytes | None:
        """The bytes of an object, or None where there is none."""
        stored = self.fetch(key)
        return None if stored is None else stored.data

    def describe(self, key: str) -> Described | None:
        """An object's size and ETag, or None where there is none."""
        with available():
            try:
                with translated(self.bucket, key):
                    answer = self.client.head_object(Bucket=self.bucket, Key=key)
                    return Described(answer["ContentLength"], answer["ETag"])
            except NotInRegistryError:
                return None

    def read_range(self, key: str, first: int, end: int, etag: str | None = None) -> bytes | None:
        """Bytes of an object, from `first` to before `end`; None where there is none, or none with the ETag given."""
        condition: _Condition = {} if etag is None else {"IfMatch": etag}
        with available():
            try:
                with translated(self.bucket, key):
                    asked = f"bytes={first}-{end - 1}"
                    answer = self.client.get_object(Bucket=self.bucket, Key=key, Range=asked, **condition)
                    return answer["Body"].read()
            except (ConflictError, NotInRegistryError):
                return None

    def create(self, key: str, data: bytes) -> bool:
        """Write an object that must not exist yet; False if it does, and then nothing has changed."""
        with available():
            try:
                with translated(self.bucket, key):
                    self.client.put_object(Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*")
            except ConflictError:
                return False
            return True

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        """Write an object over the one with this ETag; False if it is another by now, and then nothing has changed."""
        with available():
            try:
                with translated(self.bucket, key):
                    self.client.put_object(Bucket=self.bucket, Key=key, Body=data, IfMatch=etag)
            except (ConflictError, NotInRegistryError):
                return False
            return True

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        with available(), translated(self.bucket, key):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """The keys that begin with `prefix` and come after `after`, in order, as they are asked for."""
        with available(), translated(self.bucket, prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, StartAfter=after
            )
            for page in pages:
                yield from (item["Key"] for item in page.get("Contents", ()))

    def address(self, key: str, seconds: int) -> str:
        """A URL at which anybody who has it may read an object for so long."""
        parameters = {"Bucket": self.bucket, "Key": key}
        return self.client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)


def storage_of(bucket: str) -> Storage:
    """The storage in a bucket; region and credentials come from the environment.

    Raises:
        StorageUnavailableError: no bucket is named.
    """
    if not bucket:
        raise StorageUnavailableError("Results cannot be kept: RESULTS_BUCKET is not set.")
    with MAKING_CLIENTS:
        return Storage(s3_client(ATTEMPTS), bucket)


@contextmanager
def available() -> Iterator[None]:
    """Turn what goes wrong in the bucket into what a client may hear of it.

    Raises:
        StorageUnavailableError: the bucket does not do as it is asked.
    """
    try:
        yield
    except RegistryError as error:
        # Its words name buckets and keys, which are the operator's to know and not every client's.
        logger.error("storage failed", error=type(error).__name__, reason=error.message)
        raise StorageUnavailableError("The results bucket does not answer as it should.", retry_after=1) from error
