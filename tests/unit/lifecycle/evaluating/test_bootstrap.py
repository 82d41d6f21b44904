"""The paired bootstrap: sure where it may be, in doubt where it must be, and of the documents both have read."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from handler.errors import InvalidRequestError
from lifecycle.evaluating.bootstrap import compare_evaluations, paired_difference
from lifecycle.evaluating.evaluate import evaluate
from tests.checkpoints import checkpoint
from tests.pages import write_pages


def test_the_figures_by_hand() -> None:
    """Two documents of 10 bytes: 20 bits against 10, and 30 against 40."""
    rows = [(bits * math.log(2), others * math.log(2), 10.0) for bits, others in ((20, 10), (30, 40))]

    found = paired_difference(rows)

    assert (found.before, found.after) == pytest.approx((2.5, 2.5))
    assert (found.low, found.high) == pytest.approx((-1, 1))
    # Drawn twice with replacement, one in four draws has the first document alone.
    assert found.better == pytest.approx(0.25, abs=0.02)
    assert not found.is_certain


def test_equal_models_are_not_told_apart() -> None:
    found = paired_difference([(nats, nats, 100.0) for nats in (50.0, 70.0, 90.0)])

    assert (found.low, found.high, found.better, found.is_certain) == (0.0, 0.0, 0.0, False)


def test_a_small_but_steady_gain_is_certain() -> None:
    """Documents differ a hundred times as much as the models do: only pairing shows it."""
    random = np.random.default_rng(1)
    nats = random.uniform(50, 150, 60)
    rows = [(one, one - gain, 100.0) for one, gain in zip(nats, random.uniform(0.1, 0.5, 60), strict=True)]

    found = paired_difference(rows)

    assert found.is_certain
    assert found.better == 1
    assert found.high < 0


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over two hundred corpora drawn from the same source, 95 of 100 intervals should; 87 to 99 are within luck."""
    random = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        gains = random.normal(1.0, 3.0, 40)
        rows = [(100.0, 100.0 - gain, 100.0) for gain in gains]
        found = paired_difference(rows, draws=500)
        held += found.low <= -0.01 / math.log(2) <= found.high
    assert 174 <= held <= 198


def test_the_same_documents_always_give_the_same_interval() -> None:
    rows = [(float(n), n * 0.9, 10.0) for n in range(1, 30)]
    assert paired_difference(rows) == paired_difference(rows)


def test_two_checkpoints_are_compared_text_by_text(tmp_path: Path) -> None:
    one, other = (checkpoint(tmp_path / name, seed).folder for name, seed in (("one", 0), ("other", 1)))
    common, alone = write_pages(tmp_path / "common.jsonl", 4), write_pages(tmp_path / "alone.jsonl", 3, seed=9)
    first, second = evaluate(one, [common, alone], threads=1), evaluate(other, [common], threads=1)

    found = compare_evaluations(one, other)

    assert found.keys() == {"common"}
    assert found["common"].documents == 4
    for value, report in ((found["common"].before, first), (found["common"].after, second)):
        assert value == pytest.approx(report["figures"]["common"]["bits_per_byte"], abs=1e-4)


def test_checkpoints_that_read_different_texts_are_refused(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one").folder
    other = shutil.copytree(one, tmp_path / "other")
    (tmp_path / "single.jsonl").write_text(json.dumps({"text": "One document alone."}), encoding="utf-8")
    evaluate(one, [tmp_path / "single.jsonl"], threads=1)
    evaluate(other, [tmp_path / "single.jsonl"], threads=1)

    with pytest.raises(InvalidRequestError) as raised:
        compare_evaluations(one, other)
    assert raised.value.message == (
        f"{one} and {other} have no text of two documents or more in common: evaluate them on the same --text"
    )
