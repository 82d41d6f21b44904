"""Settings out of their bounds are refused by name, with the bound and what was given."""

import dataclasses
from typing import Any

import pytest

from handler.errors import InvalidRequestError
from lifecycle.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: must be at least 1, got 0"),
        ({"width": 30}, "width: must be a multiple of the 4 heads, got 30"),
        ({"warmup": 50, "steps": 50}, "warmup: must be from 0 to below the 50 steps, got 50"),
        ({"dropout": 1.0}, "dropout: must be from 0 to below 1, got 1.0"),
        ({"learning_rate": 0.0}, "learning_rate: must be above 0, got 0.0"),
        ({"clip": float("nan")}, "clip: must be above 0, got nan"),
        ({"weight_decay": -0.1}, "weight_decay: must be at least 0, got -0.1"),
        ({"micro_batch": -1}, "micro_batch: must be at least 0, got -1"),
        ({"precision": "fp8"}, "precision: must be bf16 or fp32, got 'fp8'"),
    ],
)
def test_bounds(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        dataclasses.replace(TrainingSettings(hold_out=("a",)), **changes)

    assert raised.value.message == message
