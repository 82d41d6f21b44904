"""MinHash: how alike two documents are, judged by a few numbers of each.

The resemblance of two documents is the share of their shingles (runs of five words) that both have. If shingles are
hashed, the smallest hashes of two documents agree with just that probability, so the share of agreeing minima over
many hash functions estimates it (Broder 1997, "On the resemblance and containment of documents"). Candidates are
found by locality-sensitive hashing: documents are compared only where a whole band of their minima agrees
(Leskovec, Rajaraman & Ullman 2020, "Mining of Massive Datasets", section 3.4).
"""

import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Signature = npt.NDArray[np.uint32]

WORDS: Final = 5  # in a shingle
BANDS: Final = 20
ROWS: Final = 6  # of a band: pairs of resemblance 0.8 meet in some band in 99.8 % of cases, pairs of 0.4 in 8 %
_PERMUTATIONS: Final = BANDS * ROWS
_BLOCK: Final = 256  # shingles hashed at once, by all permutations: a quarter of a megabyte, which a cache holds

# The constants of the hash functions: odd multipliers and offsets, drawn once and for all.
_random = np.random.default_rng(1997)
_MULTIPLIERS: Final = _random.integers(2**63, size=(_PERMUTATIONS, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS: Final = _random.integers(2**63, size=(_PERMUTATIONS, 1), dtype=np.uint64)
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth, TAOCP 3, section 6.4)


def shingles(text: str) -> Hashes:
    """The hashes of a document's distinct shingles, (S,); a shorter document is one shingle, one without words none.

    Case does not count.
    """
    words = text.casefold().split()
    hashed = np.array([zlib.crc32(word.encode()) for word in words], np.uint64)
    runs = max(1, len(hashed) - WORDS + 1) if len(hashed) else 0
    combined = np.zeros(runs, np.uint64)
    for offset in range(min(WORDS, len(hashed))):
        combined = _mixed(combined * _SPREAD + hashed[offset : offset + runs])
    return np.unique(combined)


def signature(text: str) -> Signature:
    """The smallest hash of a document's shingles under each hash function, (BANDS * ROWS,)."""
    smallest = np.full(_PERMUTATIONS, np.iinfo(np.uint64).max)
    given = shingles(text)
    for start in range(0, len(given), _BLOCK):
        # Multiply-add-shift (Dietzfelbinger 1996): of the product modulo 2^64 the upper half is well mixed.
        block = _MULTIPLIERS * given[start : start + _BLOCK] + _OFFSETS  # (P, block)
        smallest = np.minimum(smallest, block.min(axis=1))
    return (smallest >> np.uint64(32)).astype(np.uint32)


def resemblance(first: Signature, second: Signature) -> float:
    """The estimated resemblance of two documents, from 0 to 1; its standard error is at most 0.046."""
    return float((first == second).mean())


def band_keys(given: Signature) -> list[int]:
    """One number for each band; documents are candidates where both have one of them in the same place."""
    return [zlib.crc32(band.tobytes()) << 8 | number for number, band in enumerate(given.reshape(BANDS, ROWS))]


def _mixed(hashes: Hashes) -> Hashes:
    """Every bit of a hash made to depend on the others: half of SplitMix64's finisher (Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return hashes ^ (hashes >> np.uint64(27))
