"""MinHash against the resemblance it estimates, counted out."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from lifecycle.data.minhash import BANDS, ROWS, band_keys, resemblance, shingles, signature

WORDS = [f"word{number}" for number in range(3000)]


def page(seed: int, words: int = 1000) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def changed(words: Sequence[str], count: int) -> list[str]:
    """The same page with some words replaced, each of which is in five shingles."""
    places = random.Random(count).sample(range(len(words)), count)
    return ["other" if place in places else word for place, word in enumerate(words)]


def true_resemblance(first: Sequence[str], second: Sequence[str]) -> float:
    """By the definition: the share of all runs of five words that both have."""
    one, other = ({tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (first, second))
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("changes", [0, 5, 20, 50, 100, 300, 1000])
def test_the_estimate_is_near_the_truth(changes: int) -> None:
    pages = [(page(seed), changed(page(seed), changes)) for seed in range(5)]
    estimates = [resemblance(signature(" ".join(one)), signature(" ".join(other))) for one, other in pages]

    # The mean of five estimates of standard error 0.046 at most is off by more than 0.08 once in ten thousand cases.
    truth = np.mean([true_resemblance(one, other) for one, other in pages])
    assert np.mean(estimates) == pytest.approx(truth, abs=0.08)


@pytest.mark.parametrize(("changes", "met"), [(10, 20), (20, 20), (300, 0)])
def test_pages_meet_in_a_band_if_and_only_if_they_are_alike(changes: int, met: int) -> None:
    """Resemblances of 0.90, 0.82 and 0.12."""
    pairs = [(signature(" ".join(page(seed))), signature(" ".join(changed(page(seed), changes)))) for seed in range(20)]

    assert sum(bool(set(band_keys(one)) & set(band_keys(other))) for one, other in pairs) == met


def test_case_and_white_space_do_not_count() -> None:
    assert np.array_equal(signature("The  sea was\nthe SEA again"), signature("the sea was the sea Again"))


def test_order_counts() -> None:
    words = page(1)
    assert resemblance(signature(" ".join(words)), signature(" ".join(reversed(words)))) < 0.05


@pytest.mark.parametrize(("text", "count"), [("", 0), ("one", 1), ("one two three four", 1), ("a b c d e f", 2)])
def test_short_texts_have_shingles_too(text: str, count: int) -> None:
    assert len(shingles(text)) == count
    assert signature(text).shape == (BANDS * ROWS,)


def test_a_long_text_is_hashed_block_by_block_to_the_same_end() -> None:
    """Twice the text has the same distinct shingles but for those at the seam."""
    words = [f"{word}{number % 7}" for number, word in enumerate(page(2, 20_000))]
    assert len(shingles(" ".join(words))) > 50 * 256
    assert resemblance(signature(" ".join(words)), signature(" ".join(words * 2))) > 0.97


def test_the_hash_functions_are_what_they_were() -> None:
    """Signatures may be compared across machines and releases of numpy."""
    assert signature("It was the best of times, it was the worst of times").tolist()[:3] == [
        95816641,
        93858760,
        474039723,
    ]
