"""Philox4x64-10: random numbers by counting (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

A number is a function of its key and its counter alone, so it comes out the same whatever is generated beside it and in
whatever order. numpy has the same generator, but importing `numpy.random` costs the first token more than a hundred
numbers do here, and one number takes a third of the time.
"""

from typing import Final

_WORD: Final = 2**64 - 1

# The paper's multipliers, and what the keys are raised by from round to round.
_MULTIPLY: Final = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_RAISE: Final = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS: Final = 10


def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> int:
    """The first of the four random words, of 64 bits each, that belong to a key and a counter (of such words, too)."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(_ROUNDS):
        first, second = _MULTIPLY[0] * c0, _MULTIPLY[1] * c2
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second & _WORD, (first >> 64) ^ c3 ^ k1, first & _WORD
        k0, k1 = (k0 + _RAISE[0]) & _WORD, (k1 + _RAISE[1]) & _WORD
    return c0
