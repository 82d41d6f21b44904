"""A prefix in S3, given as s3://BUCKET/PREFIX: its objects listed, read as streams, written and fetched as files."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s3transfer.exceptions import RetriesExceededError

from handler.errors import InvalidRequestError, NotInRegistryError, StoreUnavailableError
from handler.registry.s3 import s3_client, translated

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

SCHEME = "s3://"
_URI = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class S3Prefix:
    """Where some objects lie; every method raises `RegistryError`s that name the object at fault.

    Attributes:
        client: how to get at them.
        bucket: the bucket.
        prefix: what their keys begin with.
    """

    client: "S3Client"
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str, param: str) -> "S3Prefix":
        """Read an address.

        Args:
            uri: `s3://BUCKET/PREFIX`, or `s3://BUCKET` for the whole bucket.
            param: what it was given as, for the error.

        Raises:
            InvalidRequestError: it is no such address.
        """
        if not (match := _URI.fullmatch(uri)):
            raise InvalidRequestError(f"{param}: must be s3://BUCKET/PREFIX, got {uri!r}", param=param)
        return cls(s3_client(_ATTEMPTS), match[1], match[2] or "")

    def keys(self) -> Iterator[str]:
        """The keys of all objects, in S3's order, which is that of their UTF-8 bytes."""
        with translated(self.bucket, self.prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
            for page in pages:
                yield from (item["Key"] for item in page.get("Contents", ()))

    @contextmanager
    def open(self, key: str) -> Iterator["StreamingBody"]:
        """An object's bytes, read as they are asked for."""
        with translated(self.bucket, key):
            yield self.client.get_object(Bucket=self.bucket, Key=key)["Body"]

    def upload(self, path: Path) -> None:
        """Put a file under its own name behind the prefix; whoever reads has the old object or the new one, whole."""
        key = self._key(path)
        with translated(self.bucket, key), path.open("rb") as file:
            self.client.upload_fileobj(file, self.bucket, key)

    def download(self, path: Path) -> bool:
        """Fetch the object of a file's name into that file, in one move; False where there is none."""
        partial, key = path.with_suffix(".partial"), self._key(path)
        try:
            with translated(self.bucket, key), partial.open("wb") as file:
                self.client.download_fileobj(self.bucket, key, file)
        except NotInRegistryError:
            partial.unlink()
            return False
        except RetriesExceededError as error:
            raise StoreUnavailableError(f"s3://{self.bucket}/{key}: {error}", retry_after=1) from error
        partial.replace(path)
        return True

    def _key(self, path: Path) -> str:
        return f"{self.prefix.rstrip('/')}/{path.name}".lstrip("/")
