"""Fingerprints: the same words are the same document, and a set of them survives being written down."""

import pytest

from handler.errors import CorruptModelError
from lifecycle.data.fingerprints import RANGE, decode_fingerprints, encode_fingerprints, fingerprint, normalised


@pytest.mark.parametrize("same", ["Café  noir", "Cafe\u0301 noir", "\n Café\tnoir \n"])
def test_white_space_and_unicode_form_do_not_count(same: str) -> None:
    assert fingerprint(same) == fingerprint("Café noir")


@pytest.mark.parametrize("other", ["café noir", "Café noir.", "Cafénoir", ""])
def test_everything_else_counts(other: str) -> None:
    assert fingerprint(other) != fingerprint("Café noir")


def test_normalising_composes_and_keeps_the_lines() -> None:
    assert normalised("\n\nCafe\u0301\n\nnoir  \n") == "Café\n\nnoir"


def test_a_set_is_written_down_in_order_and_read_again() -> None:
    marks = [fingerprint(str(number)) for number in range(20)]

    assert all(0 <= mark < RANGE for mark in marks)
    assert decode_fingerprints(encode_fingerprints(marks)) == set(marks)
    assert encode_fingerprints(marks) == encode_fingerprints(reversed(marks + marks))
    assert decode_fingerprints(None) == decode_fingerprints("") == frozenset()


@pytest.mark.parametrize("damaged", ["no base64!", "QUJD", 7, ["QUJD"]])
def test_what_is_no_such_set_is_told(damaged: object) -> None:
    with pytest.raises(CorruptModelError, match="fingerprints must be"):
        decode_fingerprints(damaged)
