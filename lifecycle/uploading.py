"""Write objects into the models bucket: under a condition, and with a SHA-256 that S3 checks on arrival."""

import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from handler.errors import AccessDeniedError, ConflictError, NotInRegistryError
from handler.registry.manifest import Manifest, ManifestFile
from handler.registry.names import CHUNK_SIZE, file_key
from handler.registry.s3 import THREADS, translated
from lifecycle.store import WritableStore

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

Progress = Callable[[str, int], None]
"""Told of every piece that was hashed or uploaded: what was done, and how many bytes."""


def upload_if_absent(
    store: WritableStore, manifest: Manifest, file: ManifestFile, folder: Path, progress: Progress
) -> None:
    """Put a file into the bucket unless exactly this file is there."""
    key = file_key(manifest.name, manifest.version, file.path)
    found = _head(store, key)
    if found is not None and found[1] == _s3_checksum(file):
        progress("upload", file.size)
        return
    etag = found[0] if found else None  # something else lies there: it is replaced, unless somebody does it first
    try:
        if len(file.chunks) == 1:
            put(store, key, (folder / file.path).read_bytes(), etag=etag, sha256=file.sha256)
            progress("upload", file.size)
        else:
            _put_in_parts(store, key, folder / file.path, file, etag=etag, progress=progress)
    except (ConflictError, NotInRegistryError):  # the latter of an upload in parts that somebody else has ended
        found = _head(store, key)
        if found is None or found[1] != _s3_checksum(file):
            raise


def put(store: WritableStore, key: str, body: bytes, *, etag: str | None, sha256: str | None = None) -> None:
    """Write an object where there is none, or where there is still the one with this ETag.

    Raises:
        ConflictError: there is another one.
    """
    digest = bytes.fromhex(sha256) if sha256 else hashlib.sha256(body).digest()
    with translated(store.bucket, key):
        store.client.put_object(
            Bucket=store.bucket,
            Key=key,
            Body=body,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=_base64(digest),
            **_condition(etag),
        )


def _put_in_parts(
    store: WritableStore, key: str, path: Path, file: ManifestFile, *, etag: str | None, progress: Progress
) -> None:
    """Write a large object as `put` does, chunk by chunk, several at once; go on where an earlier attempt broke off.

    Each part carries its chunk's SHA-256 from the manifest, so S3 itself refuses whatever is not what was promised,
    and at the end once more for the parts of the earlier attempt. boto3's own managed upload knows no conditions.
    """
    client = store.client
    with translated(store.bucket, key):
        upload, there = _unfinished(store, key) or (_begin(store, key), {})

    def put_part(index: int) -> "CompletedPartTypeDef":
        with path.open("rb") as stream:
            stream.seek(index * CHUNK_SIZE)
            body = stream.read(CHUNK_SIZE)
        checksum = _base64(bytes.fromhex(file.chunks[index]))
        part_etag = there.get(index + 1)
        # The ETag of a part is its MD5, but for one encrypted by a key of KMS, which is put again.
        if part_etag != f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"':
            part_etag = client.upload_part(
                Bucket=store.bucket, Key=key, UploadId=upload, PartNumber=index + 1, Body=body, ChecksumSHA256=checksum
            )["ETag"]
        progress("upload", len(body))
        return {"PartNumber": index + 1, "ETag": part_etag, "ChecksumSHA256": checksum}

    pool = ThreadPoolExecutor(THREADS, "publish")
    try:
        with translated(store.bucket, key):
            parts = list(pool.map(put_part, range(len(file.chunks))))
            client.complete_multipart_upload(
                Bucket=store.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **_condition(etag)
            )
    except ConflictError:
        # Nobody will ever want these parts, and they cost money. Whatever else goes wrong, the next attempt wants them;
        # if there is none, garbage collection, or the bucket's lifecycle rule, lets go of them.
        with suppress(BotoCoreError, ClientError):
            client.abort_multipart_upload(Bucket=store.bucket, Key=key, UploadId=upload)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(store: WritableStore, key: str) -> str:
    """Begin an upload in parts, and return its id."""
    return store.client.create_multipart_upload(
        Bucket=store.bucket, Key=key, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE"
    )["UploadId"]


def _unfinished(store: WritableStore, key: str) -> tuple[str, dict[int, str]] | None:
    """The latest upload of this object that was begun and not ended: its id, and the ETag of each part by its number.

    None where there is none, or where it may not be looked for.
    """
    client = store.client
    try:
        with translated(store.bucket, key):
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=store.bucket, Prefix=key)
            uploads = [
                each
                for page in pages
                for each in page.get("Uploads", ())
                if each["Key"] == key and each.get("ChecksumAlgorithm", "SHA256") == "SHA256"
            ]
            if not uploads:
                return None
            upload = max(uploads, key=lambda each: each["Initiated"])["UploadId"]
            listed = client.get_paginator("list_parts").paginate(Bucket=store.bucket, Key=key, UploadId=upload)
            return upload, {part["PartNumber"]: part["ETag"] for page in listed for part in page.get("Parts", ())}
    except (AccessDeniedError, NotInRegistryError):  # the latter of one that was ended meanwhile
        return None


def _head(store: WritableStore, key: str) -> tuple[str, str] | None:
    """An object's ETag and SHA-256 as S3 keeps it, or None where there is no object.

    The SHA-256 of an object put in parts is followed by their number; not everywhere, and it adds nothing to the hash.
    """
    try:
        with translated(store.bucket, key):
            head = store.client.head_object(Bucket=store.bucket, Key=key, ChecksumMode="ENABLED")
    except NotInRegistryError:
        return None
    return head["ETag"], head.get("ChecksumSHA256", "").partition("-")[0]


def _s3_checksum(file: ManifestFile) -> str:
    """What S3 takes for the SHA-256 of this file: of one put in parts it is that of the parts' hashes."""
    if len(file.chunks) == 1:
        return _base64(bytes.fromhex(file.sha256))
    return _base64(hashlib.sha256(bytes.fromhex("".join(file.chunks))).digest())


def _condition(etag: str | None) -> Any:
    """The condition under which a write happens: that the object is the one with this ETag, or that there is none."""
    return {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
