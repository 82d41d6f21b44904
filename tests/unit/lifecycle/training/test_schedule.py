"""Warm-up and cosine decay at the points where their values are known."""

import pytest

from lifecycle.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.25),  # the first of four warm-up steps
        (3, 1.0),  # the last one reaches the peak
        (4, 1.0),  # where the cosine starts
        (54, 0.51),  # half-way: the mean of peak and floor
        (104, 0.02),  # the last step: the floor
    ],
)
def test_the_rate_at_known_steps(step: int, rate: float) -> None:
    assert learning_rate(step, peak=1.0, warmup=4, steps=105) == pytest.approx(rate, abs=1e-12)


def test_it_rises_then_falls() -> None:
    rates = [learning_rate(step, peak=3e-3, warmup=10, steps=200) for step in range(200)]

    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == 3e-3


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert learning_rate(0, peak=1.0, warmup=0, steps=1) == 1.0
