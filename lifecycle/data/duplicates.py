"""Which documents were there before, word for word or nearly.

What has been seen lies in an SQLite file, not in memory: half a kilobyte of signature and twenty keys a document.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lifecycle.data.fingerprints import fingerprint_bytes
from lifecycle.data.minhash import BANDS, band_keys, resemblance, signature

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE documents (id INTEGER PRIMARY KEY, name TEXT, fingerprint BLOB UNIQUE, signature BLOB);
CREATE TABLE bands (key INTEGER, document INTEGER, PRIMARY KEY (key, document)) WITHOUT ROWID;
"""
_CANDIDATES = (
    "SELECT name, signature FROM documents WHERE id IN"  # noqa: S608 (nothing is put in but question marks)
    f" (SELECT document FROM bands WHERE key IN ({', '.join('?' * BANDS)})) ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Why a document is not wanted.

    Attributes:
        reason: whether it has the very words of another, or nearly.
        of: the other's name.
        resemblance: how alike they are, estimated for those nearly alike.
    """

    reason: Literal["exact duplicate", "near duplicate"]
    of: str
    resemblance: float


class Seen:
    """The documents that were kept so far."""

    def __init__(self, database: sqlite3.Connection, threshold: float) -> None:
        self._database, self._threshold = database, threshold

    def find_or_add(self, name: str, text: str, fingerprint: int) -> Duplicate | None:
        """The kept document that this one repeats, or None, and then it is kept itself.

        Args:
            name: the document's name.
            text: its words.
            fingerprint: of those words.
        """
        key = fingerprint_bytes(fingerprint)
        row = self._database.execute("SELECT name FROM documents WHERE fingerprint = ?", (key,)).fetchone()
        if row:
            return Duplicate("exact duplicate", row[0], 1.0)
        mine = signature(text)
        keys = band_keys(mine)
        for other, stored in self._database.execute(_CANDIDATES, keys):
            alike = resemblance(mine, np.frombuffer(stored, np.uint32))
            if alike >= self._threshold:
                return Duplicate("near duplicate", other, alike)
        inserted = self._database.execute(
            "INSERT INTO documents (name, fingerprint, signature) VALUES (?, ?, ?)", (name, key, mine.tobytes())
        )
        self._database.executemany("INSERT INTO bands VALUES (?, ?)", [(band, inserted.lastrowid) for band in keys])
        return None


@contextmanager
def nothing_seen(path: Path, threshold: float) -> Iterator[Seen]:
    """An empty memory in a file, which is gone at the end.

    Args:
        path: where the file may lie.
        threshold: from which resemblance on documents are nearly alike.

    Raises:
        OSError: the disk is full.
    """
    database = sqlite3.connect(path)
    try:
        database.executescript(_SCHEMA)
        yield Seen(database, threshold)
    except sqlite3.OperationalError as error:
        raise OSError(f"{path}: {error}") from error
    finally:
        database.close()
        path.unlink(missing_ok=True)
