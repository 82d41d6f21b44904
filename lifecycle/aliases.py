"""An alias, and how it came to point where it does: each move is recorded, and no record is ever lost.

An alias is one object. Its first line is the version, the second the record of the move that put it there, so that one
conditional put writes both. Whoever moves it next first leaves that record in the history, as an object of its own,
numbered, which nobody replaces. Dying in between does no harm, because the next mover finds the record still in the
alias; and of two who move it at once one is refused, and nothing says that their move had happened.
"""

import getpass
import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from handler.errors import ConflictError, CorruptModelError, InvalidRequestError, NotInRegistryError
from handler.registry.names import alias_key, history_prefix, is_version
from handler.registry.store import AliasState, version_in
from lifecycle.store import WritableStore
from lifecycle.uploading import put

Action: TypeAlias = Literal["promote", "rollback", "take back"]

MAX_WHY: Final = 1000
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class Move:
    """The record of one move of an alias.

    Attributes:
        serial: counts the moves of the alias, from 1.
        at: when, ISO 8601 in UTC.
        by: who, as their machine calls them; who it was to AWS is in the bucket's own trail.
        action: what kind of move it was.
        before: the version the alias pointed to, or None if it was new.
        version: the version it points to since.
        why: the reason given, perhaps none.
        verdict: what the gate said of the version.
        forced: whether it was moved although the gate refused.
    """

    serial: int
    at: str
    by: str
    action: Action
    before: str | None
    version: str
    why: str = ""
    verdict: str = ""
    forced: bool = False

    @classmethod
    def from_json(cls, data: str, where: str) -> "Move":
        """Read a record.

        Raises:
            CorruptModelError: it is none; the message names where it stands.
        """
        try:
            move = cls(**json.loads(data))
        except (ValueError, TypeError, RecursionError) as error:
            raise CorruptModelError(f"{where} must hold the record of a move: {error}") from error
        versions: list[object] = [move.version, *([] if move.before is None else [move.before])]
        texts = (move.at, move.by, move.why, move.verdict)
        if (
            type(move.serial) is not int
            or move.action not in get_args(Action)
            or not all(isinstance(text, str) for text in texts)
            or not all(isinstance(version, str) and is_version(version) for version in versions)
        ):
            raise CorruptModelError(f"{where} must hold the record of a move, not {data!r:.200}")
        return move

    def to_json(self) -> str:
        """The record as one line."""
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias as it stands: where it points, and by which move, unless it was written by hand."""

    state: AliasState
    move: Move | None

    @property
    def version(self) -> str:
        """The version it points to."""
        return self.state.version


def read_alias(store: WritableStore, name: str, alias: str) -> Alias | None:
    """An alias, or None where there is none.

    Raises:
        CorruptModelError: it holds something else.
    """
    key = alias_key(name, alias)
    where = f"s3://{store.bucket}/{key}"
    try:
        data, etag = store.read(key)
    except NotInRegistryError:
        return None
    record = data.decode("utf-8", "replace").partition("\n")[2].strip()
    return Alias(AliasState(version_in(data, where), etag), Move.from_json(record, where) if record else None)


def history(store: WritableStore, name: str, alias: str) -> list[Move]:
    """Every recorded move of an alias, the first one first, the one that put it where it is now last.

    Raises:
        CorruptModelError: a record is damaged.
    """
    current = read_alias(store, name, alias)
    moves = _archived(store, name, alias)
    if current is not None and current.move is not None and current.move not in moves:
        moves.append(current.move)
    return moves


def version_before(moves: Sequence[Move]) -> str | None:
    """The version to go back to: the one that was promoted before the one that holds now.

    Going back twice leads two promotions back, not to where the first going back came from.
    """
    promoted: list[str] = []
    for move in moves:
        if move.action == "promote":
            if not promoted and move.before is not None:
                promoted.append(move.before)  # from before there was a history
            promoted.append(move.version)
        else:
            while promoted and promoted[-1] != move.version:
                promoted.pop()
    return promoted[-2] if len(promoted) > 1 else None


def move_alias(
    store: WritableStore,
    name: str,
    alias: str,
    version: str,
    *,
    current: Alias | None,
    action: Action,
    why: str,
    verdict: str = "",
    forced: bool = False,
) -> Move:
    """Move an alias, if it still is as it was read, and record the move.

    Args:
        store: the bucket.
        name: the model.
        alias: the alias.
        version: where to.
        current: the alias as it was read, None if there was none.
        action: what kind of move it is.
        why: the reason.
        verdict: what the gate said.
        forced: whether the gate refused.

    Raises:
        InvalidRequestError: the reason is too long.
        ConflictError: somebody else moved it since; theirs holds.
    """
    if len(why) > MAX_WHY:
        raise InvalidRequestError(f"why may have at most {MAX_WHY} characters; given: {len(why)}", param="why")
    before = current.version if current else None
    move = Move(
        serial=_next_serial(store, name, alias, current),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=_who(),
        action=action,
        before=before,
        version=version,
        why=why,
        verdict=verdict,
        forced=forced,
    )
    if current is not None and current.move is not None:
        _archive(store, name, alias, current.move)
    body = f"{version}\n{move.to_json()}\n".encode()
    try:
        put(store, alias_key(name, alias), body, etag=current.state.etag if current else None)
    except ConflictError as error:
        # It may be our own write: S3 did it, its answer was lost, and boto3 asked again.
        now = read_alias(store, name, alias)
        if now is None or now.version != version:
            raise ConflictError(
                f"{alias} of {name} was moved by somebody else while it was to be moved from"
                f" {before or 'nothing'} to {version}; nothing was changed. Look where it points"
                f" now, and {action} again if it still should move"
            ) from error
        return now.move or move
    return move


def remove_alias(store: WritableStore, name: str, alias: str, current: Move) -> None:
    """Remove an alias that should never have been; that it was stays in the history."""
    _archive(store, name, alias, current)
    store.delete(alias_key(name, alias))


def _archive(store: WritableStore, name: str, alias: str, move: Move) -> None:
    key = f"{history_prefix(name, alias)}{move.serial:08d}.json"
    with suppress(ConflictError):  # another mover has left the same record there
        put(store, key, move.to_json().encode(), etag=None)


def _archived(store: WritableStore, name: str, alias: str) -> list[Move]:
    prefix = history_prefix(name, alias)
    moves = []
    for rest in sorted(store.keys_below(prefix)):
        data, _ = store.read(prefix + rest)
        moves.append(Move.from_json(data.decode("utf-8", "replace"), f"s3://{store.bucket}/{prefix}{rest}"))
    return moves


def _next_serial(store: WritableStore, name: str, alias: str, current: Alias | None) -> int:
    if current is not None and current.move is not None:
        return current.move.serial + 1
    # New, or written by hand: earlier moves may lie in the history all the same.
    return max((move.serial for move in _archived(store, name, alias)), default=0) + 1


def _who() -> str:
    try:
        user: Any = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = os.getuid()
    return f"{user}@{platform.node()}"
