"""From an alias to a model in memory: every file read in ranges, in parallel, each chunk checked as it arrives.

Nothing touches the disk. Each file gets one buffer, every chunk is read straight to its place in it, compared with its
SHA-256 and, where it fails, is truncated or does not match, read again on its own.
"""

import hashlib
import mmap
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from handler.errors import CorruptModelError, StoreUnavailableError
from handler.registry.manifest import Manifest, ManifestFile
from handler.registry.s3 import THREADS
from handler.registry.store import ModelStore

# The longest waits before the attempts that follow the first; each wait is drawn between nothing and that ("full
# jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter), so that many environments that
# start at once do not come back at once.
_WAITS = (0.1, 0.2, 0.4, 0.8)
ATTEMPTS = len(_WAITS) + 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A version in memory.

    Attributes:
        manifest: what it is.
        files: the bytes of every file by its name; each starts on a page boundary.
    """

    manifest: Manifest
    files: Mapping[str, memoryview]


class _ChunkMismatchError(CorruptModelError):
    """A chunk's bytes have another hash than the manifest says: on their way once, or in the store for good."""


def load_model(store: ModelStore, name: str, alias: str, *, sleep: Callable[[float], None] = time.sleep) -> LoadedModel:
    """Load the version an alias points to.

    Args:
        store: where the model lies.
        name: the model.
        alias: the alias whose version is loaded.
        sleep: how to wait before trying again.

    Raises:
        NotInRegistryError: the alias, its version or a file does not exist.
        AccessDeniedError: the store refuses to hand something out.
        CorruptModelError: a file has another size or other bytes than the manifest promises, or was replaced.
        StoreUnavailableError: something could not be had in `ATTEMPTS` attempts.
    """
    version = _persistently(partial(store.alias, name, alias), sleep).version
    manifest = _persistently(partial(store.manifest, name, version), sleep)
    files = {file.path: buffer_of(file.size) for file in manifest.files}
    pool = ThreadPoolExecutor(THREADS, "load-model")
    try:
        etags = list(pool.map(lambda file: _persistently(partial(store.etag, manifest, file), sleep), manifest.files))
        reads = [
            pool.submit(_persistently, partial(read, index=index, buffer=files[file.path]), sleep)
            for file, etag in zip(manifest.files, etags, strict=True)
            for read in [partial(_read_chunk, store, manifest, file, etag)]
            for index in range(len(file.chunks))
        ]
        wait(reads, return_when=FIRST_EXCEPTION)
    finally:
        pool.shutdown(cancel_futures=True)
    for read in reads:
        if not read.cancelled():
            read.result()
    return LoadedModel(manifest, files)


def buffer_of(size: int) -> memoryview:
    """Anonymous memory: page-aligned, free until it is filled, and returned whole when it is let go of."""
    pages = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Every weight is read for every token, and a thread reads large pages half as fast again as small ones. A
        # kernel built without them refuses, which does no harm.
        with suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


def _read_chunk(
    store: ModelStore, manifest: Manifest, file: ManifestFile, etag: str, *, index: int, buffer: memoryview
) -> None:
    """Read one chunk of a file to its place in the file's buffer and check it."""
    start = index * manifest.chunk_size
    chunk = buffer[start : start + manifest.chunk_size]
    store.read_range(manifest, file, etag, start, chunk)
    if hashlib.sha256(chunk).hexdigest() != file.chunks[index]:
        where = f"{manifest.name} {manifest.version}: {file.path}, bytes {start} to {start + len(chunk) - 1}"
        raise _ChunkMismatchError(f"{where} do not have the SHA-256 {file.chunks[index]} their manifest says")


def _persistently(attempt: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Make up to `ATTEMPTS` attempts at what may go better the next time, with growing random waits in between."""
    for longest in _WAITS:
        try:
            return attempt()
        except (StoreUnavailableError, _ChunkMismatchError):
            sleep(random.uniform(0, longest))
    return attempt()
