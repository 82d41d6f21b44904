"""Files, as OpenAI's clients know them, in the results bucket.

A file is two objects: its content, and a description that is written last. Ids sort the newest first, as S3 lists them.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel

from handler.errors import NoSuchObjectError

if TYPE_CHECKING:
    from handler.kept.storage import Storage

Purpose = Literal["batch", "batch_output"]

_DESCRIPTIONS = "files/descriptions/"
_CONTENTS = "files/contents/"

_Item = TypeVar("_Item")

# Descriptions are read several at a time.
_READERS = 8


class FileObject(BaseModel):
    """A file's description."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"


class Files:
    """The files of one bucket. Every method raises StorageUnavailableError when S3 does not do as it is asked."""

    def __init__(self, storage: "Storage") -> None:
        self.storage = storage

    def create(self, description: FileObject, content: bytes) -> FileObject:
        """Keep a file; one that exists under its id stays as it is."""
        self.storage.create(content_key(description.id), content)
        self.storage.create(_description_key(description.id), description.model_dump_json().encode())
        return description

    def get(self, file_id: str) -> FileObject:
        """A file's description.

        Raises:
            NoSuchObjectError: there is no such file, or it has expired.
        """
        data = self.storage.read(_description_key(file_id)) if is_id(file_id) else None
        found = None if data is None else FileObject.model_validate_json(data)
        if found is None or is_past(found.expires_at):
            raise NoSuchObjectError("There is no such file.", param="file_id")
        return found

    def content(self, file_id: str) -> bytes:
        """What is in a file.

        Raises:
            NoSuchObjectError: it is not there any more.
        """
        data = self.storage.read(content_key(file_id))
        if data is None:
            raise NoSuchObjectError("The file has no content any more.", param="file_id")
        return data

    def delete(self, file_id: str) -> None:
        """Remove a file.

        Raises:
            NoSuchObjectError: there is no such file.
        """
        self.get(file_id)
        self.storage.delete(_description_key(file_id))
        self.storage.delete(content_key(file_id))

    def listed(self, *, after: str | None, limit: int, newest_first: bool, purpose: str | None) -> list[FileObject]:
        """At most `limit` files that come after one of them, those that expired left out."""

        def read(key: str) -> FileObject | None:
            data = self.storage.read(key)
            found = None if data is None else FileObject.model_validate_json(data)
            wanted = found is not None and not is_past(found.expires_at) and purpose in (None, found.purpose)
            return found if wanted else None

        keys = keys_after(self.storage, _DESCRIPTIONS, after, newest_first=newest_first)
        return first_found(keys, read, limit)


def new_id(prefix: str, at: float | None = None, rest: str | None = None) -> str:
    """An id that sorts before all that were made earlier.

    Args:
        prefix: what it begins with.
        at: when it was made, in seconds since 1970; by default now.
        rest: 16 hex digits that tell it from others made at that time; by default random ones.
    """
    milliseconds = int((time.time() if at is None else at) * 1000)
    return f"{prefix}{(1 << 44) - 1 - milliseconds:011x}{rest or secrets.token_hex(8)}"


def is_id(text: str) -> bool:
    """Whether this could be an id that `new_id` made, or one derived from it."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,80}", text) is not None


def content_key(file_id: str) -> str:
    """Where the content of a file lies."""
    return f"{_CONTENTS}{file_id}"


def is_past(moment: int | None) -> bool:
    """Whether a time, in seconds since 1970, has come."""
    return moment is not None and moment <= time.time()


def keys_after(storage: "Storage", prefix: str, after: str | None, *, newest_first: bool) -> Iterator[str]:
    """The keys of descriptions, beginning behind the one with the id `after`."""
    last = f"{prefix}{after}.json" if after else ""
    if newest_first:
        return storage.keys(prefix, last)
    # S3 lists in one direction only.
    return reversed([key for key in storage.keys(prefix) if not last or key < last])


def first_found(keys: Iterator[str], read: Callable[[str], _Item | None], limit: int) -> list[_Item]:
    """The first `limit` items that are there, read several at a time."""
    found: list[_Item] = []
    with ThreadPoolExecutor(_READERS, "read") as pool:
        while len(found) < limit and (some := list(islice(keys, limit - len(found)))):
            found += [item for item in pool.map(read, some) if item is not None]
    return found


def _description_key(file_id: str) -> str:
    return f"{_DESCRIPTIONS}{file_id}.json"
