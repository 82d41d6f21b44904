"""A small corpus, and a run on it of less than a second."""

from pathlib import Path

import pytest
import torch

from lifecycle.training.settings import TrainingSettings
from tests.books import write_books


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums are split over threads, so the same bits need the same number of them; tiny models are fastest on one."""
    torch.set_num_threads(1)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of three books."""
    return write_books(tmp_path / "texts")


@pytest.fixture(scope="session")
def tiny() -> TrainingSettings:
    """A run of 12 steps in less than a second."""
    return TrainingSettings(
        hold_out=("tower",),
        vocabulary=300,
        context=16,
        width=16,
        layers=2,
        heads=2,
        dropout=0.1,
        batch_size=4,
        steps=12,
        warmup=2,
        eval_every=4,
        precision="fp32",
    )
