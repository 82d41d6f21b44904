"""A large object put together in S3, part by part: by several threads, by one process after the other.

The upload itself remembers which parts it has, so whoever goes on with it asks it (S3 User Guide, "Uploading and
copying objects using multipart upload").
"""

from typing import TYPE_CHECKING, Final

from handler.errors import ConflictError, NotInRegistryError
from handler.kept.storage import Storage, available
from handler.registry.s3 import translated

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

# S3's own bounds: every part but the last has at least so many bytes, and there are at most so many.
SMALLEST_PART: Final = 5 * 2**20
MOST_PARTS: Final = 10_000


class Multipart:
    """An upload. Its methods raise StorageUnavailableError when S3 does not do as it is asked."""

    def __init__(self, storage: Storage, key: str, upload_id: str) -> None:
        self._client = storage.client
        self._bucket = storage.bucket
        self._key = key
        self._id = upload_id

    @classmethod
    def begin(cls, storage: Storage, key: str) -> str:
        """Begin an upload, and return its id."""
        with available(), translated(storage.bucket, key):
            return storage.client.create_multipart_upload(Bucket=storage.bucket, Key=key)["UploadId"]

    def parts(self) -> dict[int, str] | None:
        """The ETags of the parts there are, by their numbers from 1; None if the upload has ended."""
        with available():
            try:
                with translated(self._bucket, self._key):
                    pages = self._client.get_paginator("list_parts").paginate(
                        Bucket=self._bucket, Key=self._key, UploadId=self._id
                    )
                    return {part["PartNumber"]: part["ETag"] for page in pages for part in page.get("Parts", ())}
            except NotInRegistryError:
                return None

    def put(self, number: int, data: bytes) -> str:
        """Upload a part, and return its ETag."""
        with available(), translated(self._bucket, self._key):
            answer = self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._id, PartNumber=number, Body=data
            )
            return answer["ETag"]

    def copy(self, number: int, source: str, first: int, end: int) -> str:
        """Make a part of bytes `first` to `end` (which is behind the last) of another object, and return its ETag."""
        with available(), translated(self._bucket, self._key):
            answer = self._client.upload_part_copy(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._id,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceRange=f"bytes={first}-{end - 1}",
            )
            return answer["CopyPartResult"]["ETag"]

    def complete(self, etags: dict[int, str]) -> None:
        """Make the object of its parts; where it is there already, or the upload has ended, nothing changes."""
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())
        ]
        with available():
            try:
                with translated(self._bucket, self._key):
                    self._client.complete_multipart_upload(
                        Bucket=self._bucket,
                        Key=self._key,
                        UploadId=self._id,
                        MultipartUpload={"Parts": parts},
                        IfNoneMatch="*",
                    )
            except (ConflictError, NotInRegistryError):
                return
