"""Move an alias onto a version, past the gate, and back again.

Running environments follow an alias, so it only ever points to what can be loaded: every file is looked for before the
move. Garbage collection may go on at the same time. It withdraws a manifest first and looks at the aliases afterwards,
here the alias is moved first and the manifest looked for afterwards: whoever comes second sees the other.
"""

from typing import Final

from handler.errors import ConflictError, InvalidRequestError, NotInRegistryError
from lifecycle.aliases import Alias, Move, history, move_alias, read_alias, remove_alias, version_before
from lifecycle.gate import MAX_RISE, judge
from lifecycle.quality import QualityError
from lifecycle.store import WritableStore

LIVE: Final = "live"
"""The alias whose version others are compared with."""


def promote(
    store: WritableStore,
    name: str,
    version: str,
    alias: str,
    *,
    why: str = "",
    max_rise: float = MAX_RISE,
    force: bool = False,
) -> Move | None:
    """Move an alias onto a version, which environments serve from then on.

    The version is held against the one that `live` points to, or where there is none, the alias itself.

    Args:
        store: the bucket.
        name: the model.
        version: where to.
        alias: the alias.
        why: a reason, for the history.
        max_rise: how much the perplexity per word may rise; see `gate.judge`.
        force: move it even if the gate refuses; the history says so.

    Returns:
        The move, or None if the alias points there already.

    Raises:
        InvalidRequestError: version, alias or reason are none.
        NotInRegistryError: the version is not published, or one of its files is gone.
        QualityError: the gate refuses.
        ConflictError: somebody else moved the alias at the same time; theirs holds.
        CorruptModelError: the version, or an evaluation, is damaged.
    """
    check_complete(store, name, version)
    current = read_alias(store, name, alias)
    if current is not None and current.version == version:
        return None
    live = current if alias == LIVE else read_alias(store, name, LIVE) or current
    verdict = judge(store, store.manifest(name, version), live.version if live else None, max_rise)
    if not (verdict.passed or force):
        raise QualityError(f"{alias} of {name} stays where it is: {verdict.words}. --force moves it all the same")
    move = move_alias(
        store,
        name,
        alias,
        version,
        current=current,
        action="promote",
        why=why,
        verdict=verdict.words,
        forced=not verdict.passed,
    )
    return _unless_collected(store, name, alias, current, move)


def rollback(store: WritableStore, name: str, alias: str, *, why: str = "") -> Move:
    """Move an alias back onto the version that was promoted before the one it points to.

    Raises:
        InvalidRequestError: there is none.
        NotInRegistryError: there is no such alias, or that version is there no more.
        ConflictError: somebody else moved the alias at the same time; theirs holds.
        CorruptModelError: the version, or a record of the history, is damaged.
    """
    current = read_alias(store, name, alias)
    if current is None:
        raise NotInRegistryError(f"{name} has no alias {alias}")
    version = version_before(history(store, name, alias))
    if version is None:
        raise InvalidRequestError(f"{alias} of {name} points to {current.version}, and nothing was promoted before")
    check_complete(store, name, version)
    move = move_alias(store, name, alias, version, current=current, action="rollback", why=why)
    return _unless_collected(store, name, alias, current, move)


def check_complete(store: WritableStore, name: str, version: str) -> None:
    """See that a version is published, and that every file of it is there.

    Raises:
        NotInRegistryError: it is not.
        CorruptModelError: a file has another size than the manifest says.
    """
    manifest = store.manifest(name, version)
    for file in manifest.files:
        store.etag(manifest, file)


def _unless_collected(store: WritableStore, name: str, alias: str, before: Alias | None, move: Move) -> Move:
    """The move, or back again if its version was collected meanwhile."""
    version = move.version
    try:
        store.manifest(name, version)
    except NotInRegistryError as error:
        now = read_alias(store, name, alias)
        if now is not None and now.move == move:
            if before is None:
                remove_alias(store, name, alias, move)
            else:
                gone = f"{version} was removed while the alias was moved"
                move_alias(store, name, alias, before.version, current=now, action="take back", why=gone)
        raise ConflictError(
            f"{version} of {name} was removed by a garbage collection while {alias} was moved onto it;"
            " the alias is back where it was. Publish the version again"
        ) from error
    return move
