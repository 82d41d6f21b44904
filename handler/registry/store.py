"""The models bucket, read: where an alias points, and what the version there consists of. Nothing here can write."""

from dataclasses import dataclass
from typing import Protocol

from handler.errors import CorruptModelError, NotInRegistryError, UntrustedModelError
from handler.registry import names
from handler.registry.manifest import Manifest
from handler.registry.signature import check_signature


@dataclass(frozen=True, slots=True)
class AliasState:
    """Where an alias points, and the ETag of that statement, by which it can be replaced if nobody else did."""

    version: str
    etag: str


class ObjectReader(Protocol):
    """Whatever reads small objects of one bucket."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""

    def read(self, key: str) -> tuple[bytes, str]:
        """An object whole, and its ETag."""


class ModelStore:
    """The reading side of the registry in one bucket.

    Every method raises `RegistryError`s, as `refusals.refusal` lists them, that name the object at fault.
    """

    def __init__(self, reader: ObjectReader, public_key: str = "") -> None:
        """Nothing is read yet.

        Args:
            reader: reads the bucket.
            public_key: the key that manifests must be signed by; see `signature.check_signature`. Without one, any do.
        """
        self._reader = reader
        self._public_key = public_key
        self.bucket = reader.bucket

    def alias(self, name: str, alias: str) -> AliasState:
        """Where an alias points.

        Raises:
            CorruptModelError: it holds something other than a version.
        """
        key = names.alias_key(name, alias)
        data, etag = self._reader.read(key)
        return AliasState(version_in(data, f"s3://{self.bucket}/{key}"), etag)

    def manifest(self, name: str, version: str) -> Manifest:
        """The manifest of a published version.

        Raises:
            NotInRegistryError: there is no such version, or it was never published to its end.
            CorruptModelError: the manifest is damaged or is that of another version.
            UntrustedModelError: it must be signed, and is not.
        """
        key = names.file_key(name, version, names.MANIFEST)
        data, _ = self._reader.read(key)
        if self._public_key:
            check_signature(self._public_key, name, version, data, self._signature(name, version))
        try:
            manifest = Manifest.from_json(data)
        except CorruptModelError as error:
            raise CorruptModelError(f"s3://{self.bucket}/{key}: {error.message}") from error
        if (manifest.name, manifest.version) != (name, version):
            found = f"{manifest.name} {manifest.version}"
            raise CorruptModelError(f"s3://{self.bucket}/{key} describes {found}, not {name} {version}")
        return manifest

    def _signature(self, name: str, version: str) -> bytes:
        try:
            return self._reader.read(names.file_key(name, version, names.SIGNATURE))[0]
        except NotInRegistryError as error:
            raise UntrustedModelError(f"{name} {version} is not signed, and MODEL_PUBLIC_KEY asks for it") from error


def version_in(alias: bytes, where: str) -> str:
    """The version an alias points to: its first line. What follows tells how it came to, which is nothing to a reader.

    Args:
        alias: what the alias holds.
        where: its address, for the error.

    Raises:
        CorruptModelError: it holds something other than a version.
    """
    version = alias.decode("utf-8", "replace").partition("\n")[0].strip()
    if not names.is_version(version):
        raise CorruptModelError(f"{where} must hold a version, not {version!r:.100}")
    return version
