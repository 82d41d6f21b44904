"""The models bucket, read: aliases, manifests, ranges of files, listings. Nothing here can write."""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handler.errors import ConflictError, CorruptModelError, StoreUnavailableError
from handler.registry import names
from handler.registry.manifest import Manifest, ManifestFile
from handler.registry.s3 import translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class AliasState:
    """Where an alias points, and the ETag of that statement, by which it can be replaced if nobody else did."""

    version: str
    etag: str


class ModelStore:
    """The reading side of the registry in one bucket.

    Every method raises `RegistryError`s, as `s3.translated` lists them, that name the object at fault.
    """

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def alias(self, name: str, alias: str) -> AliasState:
        """Where an alias points.

        Raises:
            CorruptModelError: it holds something other than a version.
        """
        key = names.alias_key(name, alias)
        data, etag = self._read(key)
        version = data.decode("utf-8", "replace").strip()
        if not names.is_version(version):
            raise CorruptModelError(f"s3://{self.bucket}/{key} must hold a version, not {version!r:.100}")
        return AliasState(version, etag)

    def manifest(self, name: str, version: str) -> Manifest:
        """The manifest of a published version.

        Raises:
            NotInRegistryError: there is no such version, or it was never published to its end.
            CorruptModelError: the manifest is damaged or is that of another version.
        """
        key = names.file_key(name, version, names.MANIFEST)
        data, _ = self._read(key)
        try:
            manifest = Manifest.from_json(data)
        except CorruptModelError as error:
            raise CorruptModelError(f"s3://{self.bucket}/{key}: {error.message}") from error
        if (manifest.name, manifest.version) != (name, version):
            found = f"{manifest.name} {manifest.version}"
            raise CorruptModelError(f"s3://{self.bucket}/{key} describes {found}, not {name} {version}")
        return manifest

    def etag(self, manifest: Manifest, file: ManifestFile) -> str:
        """The ETag of a version's file, by which every range of it is read.

        Raises:
            CorruptModelError: the object has another size than the manifest says.
        """
        key = names.file_key(manifest.name, manifest.version, file.path)
        with translated(self.bucket, key):
            head = self.client.head_object(Bucket=self.bucket, Key=key)
        if head["ContentLength"] != file.size:
            size = head["ContentLength"]
            raise CorruptModelError(f"s3://{self.bucket}/{key} has {size} bytes, and its manifest says {file.size}")
        return head["ETag"]

    def read_range(self, manifest: Manifest, file: ManifestFile, etag: str, start: int, into: memoryview) -> None:
        """Fill a buffer with a version's file from byte `start` on.

        Raises:
            CorruptModelError: the object is no longer the one with this ETag.
            StoreUnavailableError: fewer bytes, or others, than asked for have arrived; worth trying again.
        """
        key = names.file_key(manifest.name, manifest.version, file.path)
        end = start + len(into) - 1
        try:
            with translated(self.bucket, key):
                answer = self.client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{end}", IfMatch=etag)
                with closing(answer["Body"]) as body:
                    got = _fill(into, body.readinto)
        except ConflictError as error:
            raise CorruptModelError(f"s3://{self.bucket}/{key} was replaced while it was read") from error
        promised = answer.get("ContentRange", "")
        if got != len(into) or promised != f"bytes {start}-{end}/{file.size}":
            raise StoreUnavailableError(
                f"s3://{self.bucket}/{key}: asked for bytes {start}-{end}/{file.size}, got {got} of {promised!r}"
            )

    def models(self) -> list[str]:
        """The models of which at least one version is published."""
        found = (
            re.fullmatch(r"([^/]+)/versions/[^/]+/manifest\.json", rest) for rest in self._list(names.MODELS_PREFIX)
        )
        return sorted({match[1] for match in found if match and names.is_name(match[1])})

    def versions(self, name: str) -> list[str]:
        """The published versions of a model; a half-published one has no manifest and is not seen."""
        found = (re.fullmatch(r"([^/]+)/manifest\.json", rest) for rest in self._list(names.versions_prefix(name)))
        return [match[1] for match in found if match and names.is_version(match[1])]

    def aliases(self, name: str) -> dict[str, AliasState]:
        """Every alias of a model, by its name."""
        return {
            alias: self.alias(name, alias) for alias in self._list(names.aliases_prefix(name)) if names.is_name(alias)
        }

    def _read(self, key: str) -> tuple[bytes, str]:
        """A small object whole, and its ETag."""
        with translated(self.bucket, key):
            answer = self.client.get_object(Bucket=self.bucket, Key=key)
            return answer["Body"].read(), answer["ETag"]

    def _list(self, prefix: str) -> list[str]:
        """What follows the prefix in every key that has it."""
        with translated(self.bucket, prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [item["Key"][len(prefix) :] for page in pages for item in page.get("Contents", ())]


def _fill(buffer: memoryview, readinto: Callable[[Any], int]) -> int:
    """Read until the buffer is full or the stream ends; the number of bytes read."""
    filled = 0
    while filled < len(buffer) and (count := readinto(buffer[filled:])):
        filled += count
    return filled
