"""A copy of the model on the environment's disk: a process that is restarted there reads it instead of the network.

It is a convenience and never in the way: where the disk is full or read-only there is no copy, one that is damaged is
thrown away, and two processes that write at once do not meet. Each writes a folder of its own and renames it, so that
under a version's name there is a whole copy or none. Everything is hashed again when it is read.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from handler.errors import CorruptModelError, StoreUnavailableError
from handler.registry.manifest import Manifest, ManifestFile
from handler.registry.names import MANIFEST, is_version
from handler.registry.store import AliasState

_ALIAS = "alias.json"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """One version on the disk, not yet read, and what the alias said when it was written."""

    folder: Path
    alias: AliasState
    manifest: Manifest

    def __enter__(self) -> "LocalCopy":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is kept open."""

    def read_chunk(
        self, file: ManifestFile, start: int, into: memoryview, *, etag: str | None, begun: Callable[[str], None]
    ) -> None:
        """Fill a buffer with a file from byte `start` on; see `ChunkReader`.

        Raises:
            StoreUnavailableError: the disk does not give it.
        """
        del etag  # whatever lies here is hashed
        filled = 0
        try:
            with (self.folder / file.path).open("rb", buffering=0) as stream:
                begun("")
                stream.seek(start)
                while filled < len(into) and (count := stream.readinto(into[filled:])):
                    filled += count
        except OSError as error:
            raise StoreUnavailableError(f"{self.folder / file.path}: {error}") from error
        if filled != len(into):
            raise StoreUnavailableError(f"{self.folder / file.path} ends after {start + filled} bytes")


class LocalCache:
    """A folder with at most one version of one model."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Nothing is touched yet.

        Args:
            folder: the folder, whose parent exists.
            max_bytes: a larger version is not kept.
        """
        self._folder = folder
        self._max_bytes = max_bytes

    def find(self, bucket: str, name: str, alias: str) -> LocalCopy | None:
        """The copy of the version that this alias pointed to when it was written, if there is one."""
        with suppress(OSError, ValueError, KeyError, TypeError, CorruptModelError):
            # What somebody else has put there is nothing to start from: that the alias led to it is taken on trust.
            if self._folder.stat().st_uid != os.getuid():
                return None
            for folder in self._folder.iterdir():
                if is_version(folder.name):
                    said = json.loads((folder / _ALIAS).read_bytes())
                    manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
                    found = (said["bucket"], manifest.name, said["alias"], said["version"], manifest.version)
                    if found == (bucket, name, alias, folder.name, folder.name):
                        return LocalCopy(folder, AliasState(folder.name, said["etag"]), manifest)
        return None

    def keep(
        self, bucket: str, alias: str, state: AliasState, manifest: Manifest, files: Mapping[str, memoryview]
    ) -> bool:
        """Write a verified version, in place of any other; False where there is no room, or no writing, for it."""
        if sum(file.size for file in manifest.files) > self._max_bytes:
            return False
        unfinished = self._folder / f"{_UNFINISHED}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._clear(except_version=manifest.version)
            unfinished.mkdir()
            for path, data in files.items():
                (unfinished / path).write_bytes(data)
            (unfinished / MANIFEST).write_bytes(manifest.to_json())
            said = {"bucket": bucket, "alias": alias, **asdict(state)}
            (unfinished / _ALIAS).write_text(json.dumps(said))
            unfinished.rename(self._folder / manifest.version)  # refused where another process was first
        except OSError:
            return False
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return True

    def evict(self, version: str) -> None:
        """Throw a copy away."""
        shutil.rmtree(self._folder / version, ignore_errors=True)

    def _clear(self, *, except_version: str) -> None:
        """Throw away other versions, and what processes that are gone have left unfinished."""
        for entry in self._folder.iterdir():
            writer = entry.name.removeprefix(_UNFINISHED).partition("-")[0]
            is_underway = entry.name.startswith(_UNFINISHED) and Path(f"/proc/{writer}").exists()
            if entry.name != except_version and not is_underway:
                shutil.rmtree(entry, ignore_errors=True)
