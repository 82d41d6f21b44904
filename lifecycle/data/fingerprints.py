"""Fingerprints: which documents a model may not learn from, because it is, or was, evaluated on them.

A fingerprint is that of a document's words, whatever white space separates them and in whichever Unicode form they
came; eight bytes of it, so that a few thousand find room in a manifest.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from handler.errors import CorruptModelError

HELD_OUT = "held_out_documents"  # under which shards, checkpoints and evaluations keep a set of them

_BYTES = 8
RANGE = 1 << 8 * _BYTES


def normalised(text: str) -> str:
    """The text in Unicode's composed form (NFC): what looks the same is the same."""
    return unicodedata.normalize("NFC", text).strip()


def fingerprint(text: str) -> int:
    """A number below `RANGE`, evenly spread, that is the same for the same words."""
    words = " ".join(normalised(text).split())
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:_BYTES], "big")


def encode_fingerprints(fingerprints: Iterable[int]) -> str:
    """A set of fingerprints as text: ordered, in base64."""
    return base64.b64encode(b"".join(map(fingerprint_bytes, sorted(set(fingerprints))))).decode()


def decode_fingerprints(text: object) -> frozenset[int]:
    """What `encode_fingerprints` made; of None, nothing.

    Raises:
        CorruptModelError: it did not make this.
    """
    try:
        data = base64.b64decode(text or "", validate=True)  # type: ignore[arg-type]  # what is no text is told below
    except (ValueError, TypeError) as error:
        raise CorruptModelError(f"fingerprints must be base64, not {text!r:.100}") from error
    if len(data) % _BYTES:
        raise CorruptModelError(f"fingerprints must be a multiple of {_BYTES} bytes, not {len(data)}")
    return frozenset(int.from_bytes(data[start : start + _BYTES], "big") for start in range(0, len(data), _BYTES))


def fingerprint_bytes(mark: int) -> bytes:
    """A fingerprint as files of them hold it, one after the other."""
    return mark.to_bytes(_BYTES, "big")


def read_fingerprints(path: Path) -> Iterator[int]:
    """The fingerprints in a file, one at a time.

    Raises:
        CorruptModelError: there is no such file.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise CorruptModelError(f"{path} is missing") from error
    with file:
        while data := file.read(_BYTES):
            yield int.from_bytes(data, "big")
