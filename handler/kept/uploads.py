"""Uploads: files that come in parts, because one body may not hold them, and are put together in the results bucket."""

import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from handler.errors import InvalidRequestError, NoSuchObjectError, StorageUnavailableError
from handler.kept.files import FileObject, Files, is_id, new_id

if TYPE_CHECKING:
    from handler.kept.storage import Storage

# Parts that nobody asked for by then are removed with the bucket's other leftovers.
UPLOAD_SECONDS = 3600

_STATES = "uploads/states/"
_PARTS = "uploads/parts/"

_READERS = 8


class UploadPart(BaseModel):
    """A part of a file; where in the file it belongs is said at the end."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class Upload(BaseModel):
    """A file on its way; times are in seconds since 1970."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch"]
    status: Literal["pending", "completed", "cancelled"] = "pending"
    file: FileObject | None = None


class Uploads:
    """The uploads of one bucket. Every method raises StorageUnavailableError when S3 does not do as it is asked."""

    def __init__(self, storage: "Storage") -> None:
        self.storage = storage

    def create(self, filename: str, size: int) -> Upload:
        """Begin an upload of so many bytes."""
        now = int(time.time())
        upload = Upload(
            id=new_id("upload_"),
            bytes=size,
            created_at=now,
            expires_at=now + UPLOAD_SECONDS,
            filename=filename,
            purpose="batch",
        )
        self.storage.create(f"{_STATES}{upload.id}.json", upload.model_dump_json().encode())
        return upload

    def add(self, upload_id: str, content: bytes) -> UploadPart:
        """Keep a part.

        Raises:
            NoSuchObjectError: there is no such upload.
            InvalidRequestError: it takes no more parts.
        """
        _see_that_it_is_open(self._get(upload_id)[0])
        part = UploadPart(id=f"part_{secrets.token_hex(12)}", created_at=int(time.time()), upload_id=upload_id)
        self.storage.create(_part_key(upload_id, part.id), content)
        return part

    def complete(self, upload_id: str, part_ids: Sequence[str], checksum: str | None) -> Upload:
        """Put the parts together, in this order.

        Args:
            upload_id: the upload; one that was completed before stays as it is.
            part_ids: its parts.
            checksum: the MD5 of the whole file in hex, if it is to be checked.

        Raises:
            NoSuchObjectError: there is no such upload or part.
            InvalidRequestError: the file has another size or checksum than promised, or the upload was cancelled.
        """
        upload, _ = self._get(upload_id)
        if upload.status == "completed":
            return upload
        _see_that_it_is_open(upload)
        content = self._joined(upload, part_ids)
        if len(content) != upload.bytes:
            raise InvalidRequestError(
                f"`part_ids`: the parts must have {upload.bytes} bytes together; given: "
                f"{len(content) if len(content) <= upload.bytes else 'more'}.",
                param="part_ids",
            )
        if checksum is not None and md5(content, usedforsecurity=False).hexdigest() != checksum.lower():
            raise InvalidRequestError("`md5`: the parts put together have another checksum.", param="md5")
        file = FileObject(
            id=f"file-{upload_id.removeprefix('upload_')}",
            bytes=len(content),
            created_at=upload.created_at,
            filename=upload.filename,
            purpose="batch",
        )
        Files(self.storage).create(file, content)
        return self._end(upload_id, lambda now: now.model_copy(update={"status": "completed", "file": file}))

    def cancel(self, upload_id: str) -> Upload:
        """Give an upload up.

        Raises:
            NoSuchObjectError: there is no such upload.
            InvalidRequestError: it is completed, or was given up before.
        """
        return self._end(upload_id, lambda now: now.model_copy(update={"status": "cancelled"}))

    def _get(self, upload_id: str) -> tuple[Upload, str]:
        """An upload, and the ETag of its state."""
        stored = self.storage.fetch(f"{_STATES}{upload_id}.json") if is_id(upload_id) else None
        if stored is None:
            raise NoSuchObjectError("There is no such upload.", param="upload_id")
        return Upload.model_validate_json(stored.data), stored.etag

    def _end(self, upload_id: str, change: Callable[[Upload], Upload]) -> Upload:
        upload, etag = self._get(upload_id)
        _see_that_it_is_open(upload)
        after = change(upload)
        if not self.storage.replace(f"{_STATES}{upload_id}.json", after.model_dump_json().encode(), etag):
            raise StorageUnavailableError("Somebody else ends this upload at the same time.", retry_after=1)
        return after

    def _joined(self, upload: Upload, part_ids: Sequence[str]) -> bytes:
        known = set(self.storage.keys(f"{_PARTS}{upload.id}/"))
        for part_id in part_ids:
            if not is_id(part_id) or _part_key(upload.id, part_id) not in known:
                raise NoSuchObjectError("`part_ids`: there is no such part of this upload.", param="part_ids")
        if len(set(part_ids)) < len(part_ids):
            raise InvalidRequestError("`part_ids`: a part may be named once.", param="part_ids")
        content = bytearray()
        rest = iter(part_ids)
        with ThreadPoolExecutor(_READERS, "part") as pool:
            # A few at a time: parts larger than what was promised shall not fill the memory.
            while len(content) <= upload.bytes and (some := list(islice(rest, _READERS))):
                keys = [_part_key(upload.id, part_id) for part_id in some]
                for part in pool.map(self.storage.read, keys):
                    content += part or b""
        return bytes(content)


def _part_key(upload_id: str, part_id: str) -> str:
    return f"{_PARTS}{upload_id}/{part_id}"


def _see_that_it_is_open(upload: Upload) -> None:
    status = "expired" if upload.status == "pending" and time.time() >= upload.expires_at else upload.status
    if status != "pending":
        raise InvalidRequestError(f"`upload_id`: this upload is {status}.", param="upload_id")
