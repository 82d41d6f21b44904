"""Fills the buffers of a version's files chunk by chunk, on several threads, and checks each chunk's SHA-256."""

import hashlib
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from queue import SimpleQueue
from typing import Protocol, TypeVar

from handler.errors import CorruptModelError, StoreUnavailableError
from handler.registry.manifest import Manifest, ManifestFile
from handler.stages import ColdStart

# Four fill the wire: with two, one waits while the other is hashed, and more only make the interpreter change hands
# more often (`bench/coldstart.py` measures the loader alone).
THREADS = 4

# The longest waits before the attempts that follow the first; each wait is drawn between nothing and that ("full
# jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter), so that many environments that
# start at once do not come back at once.
WAITS = (0.1, 0.2, 0.4, 0.8)
ATTEMPTS = len(WAITS) + 1

T = TypeVar("T")


class ChunkMismatchError(CorruptModelError):
    """A chunk's bytes have another hash than the manifest says: on their way once, or in the store for good."""


class ChunkReader(Protocol):
    """Reads parts of a version's files, for one thread."""

    def read_chunk(
        self, file: ManifestFile, start: int, into: memoryview, *, etag: str | None, begun: Callable[[str], None]
    ) -> None:
        """Fill a buffer with a file from byte `start` on.

        Args:
            file: the file.
            start: the first byte.
            into: as many bytes as are read.
            etag: what `begun` was told when the file's first chunk was read, for the file must still be the same.
            begun: told the file's ETag as soon as the answer begins.
        """


class Filling:
    """One version's files on their way into memory."""

    def __init__(
        self,
        manifest: Manifest,
        buffers: Mapping[str, memoryview],
        open_reader: Callable[[], AbstractContextManager[ChunkReader]],
        *,
        persistently: Callable[[Callable[[], None]], None],
        cold_start: ColdStart,
    ) -> None:
        """Prepare.

        Args:
            manifest: the version.
            buffers: room for each file, by its path.
            open_reader: opens a reader for a thread of its own.
            persistently: makes one or several attempts at reading a chunk.
            cold_start: told when bytes begin to arrive, when the last one is here, and when all are checked.
        """
        self._manifest = manifest
        self._buffers = buffers
        self._open_reader = open_reader
        self._persistently = persistently
        self._cold_start = cold_start
        self._left = sum(len(file.chunks) for file in manifest.files)
        self._lock = threading.Lock()
        self._tasks: SimpleQueue[tuple[ManifestFile, int, str] | None] = SimpleQueue()
        self._failure: BaseException | None = None

    def run(self, reader: ChunkReader) -> None:
        """Read and check every chunk, with this reader and those of the other threads.

        This thread reads the first chunk of each file, the largest first. As soon as such an answer begins, the file's
        ETag is known, and the other threads read the other chunks of the same object, or notice that it was replaced.

        Raises:
            RegistryError: what went wrong for good, and first.
        """
        others = [
            threading.Thread(target=self._noting_failure, args=[self._work], name=f"load-model-{n}", daemon=True)
            for n in range(1, THREADS)
        ]
        for thread in others:
            thread.start()
        self._noting_failure(partial(self._read_firsts, reader))
        for _ in range(THREADS):
            self._tasks.put(None)
        self._noting_failure(partial(self._read_others, reader))
        for thread in others:
            thread.join()
        if self._failure is not None:
            raise self._failure
        self._cold_start.reached("verification")

    def _noting_failure(self, work: Callable[[], None]) -> None:
        """Do a part of the work; what goes wrong is raised by `run`, once no thread writes into a buffer any more."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - see above
            self._failure = self._failure or error

    def _work(self) -> None:
        """What the other threads do."""
        with self._open_reader() as reader:
            self._read_others(reader)

    def _read_firsts(self, reader: ChunkReader) -> None:
        for file in sorted(self._manifest.files, key=lambda file: file.size, reverse=True):
            self._read_first(reader, file)

    def _read_others(self, reader: ChunkReader) -> None:
        """Read chunks until there is none left, or one has failed for good."""
        while (task := self._tasks.get()) is not None and self._failure is None:
            file, index, etag = task
            self._persistently(partial(self._read, reader, file, index, etag=etag, begun=lambda _etag: None))

    def _read_first(self, reader: ChunkReader, file: ManifestFile) -> None:
        """Read a file's first chunk, and hand out its others as soon as the file's ETag is known."""
        known: list[str] = []

        def begun(etag: str) -> None:
            self._cold_start.reached("first_byte")
            if not known:
                known.append(etag)
                for index in range(1, len(file.chunks)):
                    self._tasks.put((file, index, etag))

        def attempt() -> None:
            self._read(reader, file, 0, etag=known[0] if known else None, begun=begun)

        self._persistently(attempt)

    def _read(
        self, reader: ChunkReader, file: ManifestFile, index: int, *, etag: str | None, begun: Callable[[str], None]
    ) -> None:
        """Read one chunk to its place and check it."""
        start = index * self._manifest.chunk_size
        chunk = self._buffers[file.path][start : start + self._manifest.chunk_size]
        reader.read_chunk(file, start, chunk, etag=etag, begun=begun)
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._cold_start.reached("transfer")
        if hashlib.sha256(chunk).hexdigest() != file.chunks[index]:
            with self._lock:
                self._left += 1
            version = f"{self._manifest.name} {self._manifest.version}"
            where = f"{version}: {file.path}, bytes {start} to {start + len(chunk) - 1}"
            raise ChunkMismatchError(f"{where} do not have the SHA-256 {file.chunks[index]} their manifest says")


def persistently(attempt: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Make up to `ATTEMPTS` attempts at what may go better the next time, with growing random waits in between."""
    for longest in WAITS:
        try:
            return attempt()
        except (StoreUnavailableError, ChunkMismatchError):
            sleep(random.uniform(0, longest))
    return attempt()
