"""The models bucket as those who fill it see it: what is there, listed, and the client that writes."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from handler.errors import CorruptModelError
from handler.registry import names
from handler.registry.manifest import Manifest, ManifestFile
from handler.registry.s3 import translated
from handler.registry.store import AliasState, ModelStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a listing: its key, its size in bytes, and when it was written."""

    key: str
    size: int
    modified: datetime


class WritableStore(ModelStore):
    """The registry in one bucket, through the SDK.

    Every method raises `RegistryError`s, as `s3.translated` lists them, that name the object at fault.
    """

    def __init__(self, client: "S3Client", bucket: str) -> None:
        super().__init__(_SdkReader(client, bucket))
        self.client = client

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

    def models(self) -> list[str]:
        """The models of which at least one version is published."""
        found = (
            re.fullmatch(r"([^/]+)/versions/[^/]+/manifest\.json", rest)
            for rest in self.keys_below(names.MODELS_PREFIX)
        )
        return sorted({match[1] for match in found if match and names.is_name(match[1])})

    def versions(self, name: str) -> list[str]:
        """The published versions of a model; a half-published one has no manifest and is not seen."""
        found = (re.fullmatch(r"([^/]+)/manifest\.json", rest) for rest in self.keys_below(names.versions_prefix(name)))
        return [match[1] for match in found if match and names.is_version(match[1])]

    def aliases(self, name: str) -> dict[str, AliasState]:
        """Every alias of a model, by its name."""
        return {
            alias: self.alias(name, alias)
            for alias in self.keys_below(names.aliases_prefix(name))
            if names.is_name(alias)
        }

    def read(self, key: str) -> tuple[bytes, str]:
        """A small object whole, and its ETag."""
        return self._reader.read(key)

    def keys_below(self, prefix: str) -> list[str]:
        """What follows the prefix in every key that has it."""
        return [each.key[len(prefix) :] for each in self.objects_below(prefix)]

    def objects_below(self, prefix: str) -> list[StoredObject]:
        """Every object whose key begins with the prefix, in the order of their keys."""
        with translated(self.bucket, prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [
                StoredObject(item["Key"], item["Size"], item["LastModified"])
                for page in pages
                for item in page.get("Contents", ())
            ]

    def delete(self, key: str) -> None:
        """Delete an object; the bucket of the stack keeps what was deleted for a month."""
        with translated(self.bucket, key):
            self.client.delete_object(Bucket=self.bucket, Key=key)


class _SdkReader:
    """Reads small objects through boto3."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self.bucket = bucket

    def read(self, key: str) -> tuple[bytes, str]:
        """An object whole, and its ETag."""
        with translated(self.bucket, key):
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            return answer["Body"].read(), answer["ETag"]
