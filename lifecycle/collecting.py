"""Garbage collection: remove versions that nothing needs, and what publications that broke off have left.

What an alias points to, what it may be taken back to, and what an environment may still be loading because an alias
pointed there a short while ago, stays. A version is withdrawn before it is removed: its manifest goes first, then the
aliases are read again, and where one has been moved onto it meanwhile (see promoting.py) the manifest is put back. So
an alias never points to a version without files, whoever of the two comes first.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from handler.errors import ConflictError, InvalidRequestError, NotInRegistryError
from handler.registry.names import MANIFEST, evaluations_prefix, file_key, is_version, version_prefix, versions_prefix
from handler.registry.s3 import translated
from lifecycle.aliases import Move, history, version_before
from lifecycle.store import StoredObject, WritableStore
from lifecycle.uploading import put

# So long nothing is touched that was just written, or that an alias pointed to until just now: somebody may be about
# to finish publishing it, to promote it, or to load it.
GRACE: Final = timedelta(days=1)

KEEP: Final = 3
"""Versions kept of each alias's history, the one it points to among them."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What can go.

    Attributes:
        versions: published versions that nothing needs.
        unfinished: versions without a manifest, older than the grace period.
        uploads: key and id of uploads in parts that were begun before the grace period and never ended.
        kept: why each other version stays.
    """

    versions: tuple[str, ...]
    unfinished: tuple[str, ...]
    uploads: tuple[tuple[str, str], ...]
    kept: dict[str, str]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remove."""
        return not (self.versions or self.unfinished or self.uploads)


def find_garbage(store: WritableStore, name: str, keep: int = KEEP, now: datetime | None = None) -> Garbage:
    """Look for what can go; nothing is changed.

    Args:
        store: the bucket.
        name: the model.
        keep: how many versions of each alias's history stay, the one it points to among them.
        now: the time, for tests.

    Raises:
        InvalidRequestError: `keep` is less than 1.
        CorruptModelError: an alias or its history is damaged, so that nobody can tell what is needed.
    """
    if keep < 1:
        raise InvalidRequestError(f"keep must be 1 or more, not {keep}", param="keep")
    since = (now or datetime.now(UTC)) - GRACE
    folders = _folders(store, name)
    needed = _needed(store, name, keep, since)
    versions, unfinished, kept = [], [], {}
    for version, objects in folders.items():
        manifest = next((each for each in objects if each.key.endswith(f"/{MANIFEST}")), None)
        if version in needed:
            kept[version] = needed[version]
        elif (manifest or max(objects, key=lambda each: each.modified)).modified > since:
            kept[version] = f"written less than {GRACE.days} day ago"
        elif manifest is None:
            unfinished.append(version)
        else:
            versions.append(version)
    return Garbage(tuple(versions), tuple(unfinished), _abandoned_uploads(store, name, since), kept)


def collect(store: WritableStore, name: str, garbage: Garbage) -> list[str]:
    """Remove what was found.

    Returns:
        The versions that were to go and stay, because an alias was moved onto them meanwhile.
    """
    stays = [version for version in garbage.versions if not _withdraw(store, name, version)]
    for version in (*garbage.versions, *garbage.unfinished):
        if version not in stays:
            for prefix in (version_prefix(name, version), evaluations_prefix(name, version)):
                for each in store.objects_below(prefix):
                    store.delete(each.key)
    for key, upload in garbage.uploads:
        try:
            with translated(store.bucket, key):
                store.client.abort_multipart_upload(Bucket=store.bucket, Key=key, UploadId=upload)
        except NotInRegistryError:  # it was ended meanwhile
            continue
    return stays


def _withdraw(store: WritableStore, name: str, version: str) -> bool:
    """Take a version's manifest away, unless an alias points there; see the module's text."""
    key = file_key(name, version, MANIFEST)
    try:
        manifest, _ = store.read(key)
    except NotInRegistryError:  # another collection was first
        return True
    store.delete(key)
    if all(state.version != version for state in store.aliases(name).values()):
        return True
    with suppress(ConflictError):  # somebody has published it anew
        put(store, key, manifest, etag=None)
    return False


def _folders(store: WritableStore, name: str) -> dict[str, list[StoredObject]]:
    """The objects of every version, published or not."""
    prefix = versions_prefix(name)
    folders: dict[str, list[StoredObject]] = {}
    for each in store.objects_below(prefix):
        version = each.key[len(prefix) :].partition("/")[0]
        if is_version(version):
            folders.setdefault(version, []).append(each)
    return folders


def _needed(store: WritableStore, name: str, keep: int, since: datetime) -> dict[str, str]:
    """The versions that must stay, and why."""
    needed: dict[str, str] = {}
    for alias, state in store.aliases(name).items():
        moves = history(store, name, alias)
        for version in (version_before(moves), *_recent(moves, keep)):
            if version is not None:
                needed.setdefault(version, f"{alias} may be taken back to it")
        for move in moves:
            if move.before is not None and datetime.fromisoformat(move.at) > since:
                needed[move.before] = f"{alias} pointed to it until {move.at}"
        needed[state.version] = f"{alias} points to it"
    return needed


def _recent(moves: Sequence[Move], keep: int) -> list[str]:
    """The last versions of an alias, each once, the latest first."""
    versions = [version for move in reversed(moves) for version in (move.version, move.before) if version is not None]
    return list(dict.fromkeys(versions))[:keep]


def _abandoned_uploads(store: WritableStore, name: str, since: datetime) -> tuple[tuple[str, str], ...]:
    prefix = versions_prefix(name)
    with translated(store.bucket, prefix):
        pages = store.client.get_paginator("list_multipart_uploads").paginate(Bucket=store.bucket, Prefix=prefix)
        return tuple(
            (each["Key"], each["UploadId"])
            for page in pages
            for each in page.get("Uploads", ())
            if each["Initiated"] <= since
        )
