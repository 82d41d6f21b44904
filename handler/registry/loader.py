"""From an alias to a model in memory, every byte of it checked: over the network, or from a copy on the disk."""

import mmap
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial

from handler.errors import RegistryError
from handler.registry.cache import LocalCache, LocalCopy
from handler.registry.chunks import ChunkReader, Filling, persistently
from handler.registry.manifest import Manifest, ManifestFile
from handler.registry.names import alias_key, file_key
from handler.registry.store import AliasState, ModelStore
from handler.registry.wire import Bucket, S3Reader
from handler.stages import ColdStart


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A version in memory.

    Attributes:
        manifest: what it is.
        files: the bytes of every file by its name; each starts on a page boundary.
        alias: what the alias said that led to it.
    """

    manifest: Manifest
    files: Mapping[str, memoryview]
    alias: AliasState


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a process gets its model from.

    Attributes:
        bucket: the models bucket.
        name: the model.
        alias: the alias whose version is loaded.
        cache: where copies are kept on this machine's disk, if they are.
        public_key: the key that manifests must be signed by, if they must.
    """

    bucket: str
    name: str
    alias: str
    cache: LocalCache | None = None
    public_key: str = ""

    def load(self, cold_start: ColdStart | None = None, *, sleep: Callable[[float], None] = time.sleep) -> LoadedModel:
        """Load the version the alias points to.

        The alias itself is asked every time: a copy is used only as long as it is what the alias points to.

        Args:
            cold_start: told how far it has come.
            sleep: how to wait before trying again.

        Raises:
            NotInRegistryError: the alias, its version or a file does not exist.
            AccessDeniedError: the store refuses to hand something out.
            CorruptModelError: a file has other bytes than the manifest promises, or was replaced.
            UntrustedModelError: the manifest must be signed, and is not.
            StoreUnavailableError: something could not be had in `chunks.ATTEMPTS` attempts.
        """
        cold_start = cold_start or ColdStart()
        bucket = Bucket.from_environment(self.bucket)
        copy = self.cache.find(self.bucket, self.name, self.alias) if self.cache else None
        with bucket.open() as reader:
            if copy is not None:
                key = alias_key(self.name, self.alias)
                if persistently(partial(reader.is_unchanged, key, copy.alias.etag), sleep):
                    with suppress(RegistryError):
                        return self._read_copy(copy, cold_start)
                    self.cache.evict(copy.manifest.version)  # type: ignore[union-attr]  # it came from there
            store = ModelStore(reader, self.public_key)
            state = persistently(partial(store.alias, self.name, self.alias), sleep)
            manifest = persistently(partial(store.manifest, self.name, state.version), sleep)
            files = {file.path: buffer_of(file.size) for file in manifest.files}
            cold_start.reached("first_range")
            Filling(
                manifest,
                files,
                lambda: _RemoteChunks(bucket.open(), manifest),
                persistently=partial(persistently, sleep=sleep),
                cold_start=cold_start,
            ).run(_RemoteChunks(reader, manifest))
        return LoadedModel(manifest, files, state)

    def manifest(self) -> Manifest:
        """The manifest of the version that the alias points to.

        Raises:
            RegistryError: as `load` raises them.
        """
        with Bucket.from_environment(self.bucket).open() as reader:
            store = ModelStore(reader, self.public_key)

            def attempt() -> Manifest:
                return store.manifest(self.name, store.alias(self.name, self.alias).version)

            return persistently(attempt, time.sleep)

    def moved_to(self, state: AliasState) -> Manifest | None:
        """The version that the alias points to now, or None if it is still the one it pointed to then.

        It is asked once: whoever follows an alias asks again before long.

        Raises:
            RegistryError: as `load` raises them.
        """
        with Bucket.from_environment(self.bucket).open() as reader:
            if reader.is_unchanged(alias_key(self.name, self.alias), state.etag):
                return None
            store = ModelStore(reader, self.public_key)
            now = store.alias(self.name, self.alias)
            return None if now.version == state.version else store.manifest(self.name, now.version)

    def keep(self, model: LoadedModel) -> bool:
        """Leave a copy for the next process on this machine; False where that cannot be."""
        return self.cache is not None and self.cache.keep(
            self.bucket, self.alias, model.alias, model.manifest, model.files
        )

    @staticmethod
    def _read_copy(copy: LocalCopy, cold_start: ColdStart) -> LoadedModel:
        files = {file.path: buffer_of(file.size) for file in copy.manifest.files}
        # One attempt: a disk that fails once, or holds a wrong byte, is not asked again.
        Filling(copy.manifest, files, lambda: copy, persistently=lambda read: read(), cold_start=cold_start).run(copy)
        return LoadedModel(copy.manifest, files, copy.alias)


def buffer_of(size: int) -> memoryview:
    """Anonymous memory: page-aligned, free until it is filled, and returned whole when it is let go of."""
    # Private, which mmap is not by default: memory that could be shared has small pages, whatever is advised, and
    # reading GPT-2 took more than twice as long with thirty thousand of them to fault in.
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Every weight is read for every token, and a thread reads large pages half as fast again as small ones. A
        # kernel built without them refuses, which does no harm.
        with suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


class _RemoteChunks(AbstractContextManager[ChunkReader]):
    """The chunks of a version's files in the bucket."""

    def __init__(self, reader: S3Reader, manifest: Manifest) -> None:
        self._reader = reader
        self._manifest = manifest

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def read_chunk(
        self, file: ManifestFile, start: int, into: memoryview, *, etag: str | None, begun: Callable[[str], None]
    ) -> None:
        """Fill a buffer with a file from byte `start` on; see `ChunkReader`."""
        key = file_key(self._manifest.name, self._manifest.version, file.path)
        self._reader.read_range(key, start, into, size=file.size, etag=etag, begun=begun)
