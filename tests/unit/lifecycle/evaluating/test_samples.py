"""Measures of repetition on pages where they can be counted out."""

import pytest

from lifecycle.evaluating.samples import distinct, repetition


@pytest.mark.parametrize(("n", "share"), [(1, 3 / 8), (2, 3 / 6), (3, 3 / 4), (9, 0.0)])
def test_distinct_runs_over_all_pages(n: int, share: float) -> None:
    """Tokens 1 2 3; pairs 12 21 13 among six; triples 121 212 213 among four; none of nine."""
    assert distinct([(1, 2, 1, 2), (1, 2, 1, 3)], n) == pytest.approx(share)


def test_repetition_is_counted_within_a_page() -> None:
    assert repetition([(1, 2, 3, 4, 5, 6)]) == 0
    assert repetition([(1, 2, 3, 4), (1, 2, 3, 4)]) == 0
    assert repetition([(7,) * 8]) == pytest.approx(4 / 5)  # five runs, all the same
    assert repetition([(7,) * 8, (1, 2, 3, 4, 5, 6)]) == pytest.approx(2 / 5)
    assert repetition([(1, 2)]) == 0
