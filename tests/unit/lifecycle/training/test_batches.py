"""Batches are functions of seed and step: they cover the tokens, differ by epoch, refuse what is too short."""

import numpy as np
import pytest

from handler.errors import InvalidRequestError
from lifecycle.training.batches import Batches

TOKENS = np.arange(1000)


def test_an_epoch_reads_consecutive_windows_once_each() -> None:
    batches = Batches(TOKENS, context=10, batch_size=7, seed=3)

    epoch = np.concatenate([batches.at(step) for step in range(batches.per_epoch)])

    starts = epoch[:, 0]
    assert batches.per_epoch == 14
    assert np.array_equal(epoch, starts[:, None] + np.arange(11))
    assert len(set(starts)) == len(starts) == 98
    assert len(set(starts % 10)) == 1


def test_batches_depend_on_seed_and_step_alone() -> None:
    first, again, other = (Batches(TOKENS, context=10, batch_size=7, seed=seed) for seed in (3, 3, 4))

    assert np.array_equal(first.at(20), again.at(20))
    assert not np.array_equal(first.at(20), other.at(20))
    assert not np.array_equal(first.at(0), first.at(first.per_epoch))


def test_every_offset_stays_within_the_tokens() -> None:
    # 31 tokens hold three windows of ten and what follows; one is given up so that any offset from 0 to 9 fits.
    seen = {int(Batches(np.arange(31), context=10, batch_size=2, seed=seed).at(0).max()) for seed in range(60)}

    assert seen == set(range(20, 30))


def test_texts_too_short_for_a_batch_are_refused() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        Batches(np.arange(25), context=10, batch_size=2, seed=0)

    assert raised.value.message == (
        "texts: one batch takes 2 windows of 10 tokens; the training texts hold 25 tokens, enough for 1"
    )
