"""A small corpus to train on in seconds: three books of generated prose, each with words of its own."""

import random
from pathlib import Path

import pytest
import torch

from lifecycle.training.settings import TrainingSettings

_NAMES = {"hills": ("Anna", "Robert", "Clara"), "marsh": ("Edith", "Walter", "Flora"), "tower": ("Zebulon", "Quincey")}


def prose(names: tuple[str, ...], sentences: int) -> str:
    """Sentences about people who look at things and speak of them, wrapped like a file of Project Gutenberg."""
    rng = random.Random(names[0])
    paragraphs = []
    for _ in range(sentences // 4):
        lines = []
        for _ in range(4):
            verb, thing = rng.choice(("saw", "found", "lost")), rng.choice(("a lamp", "the river", "an old hat"))
            who, whom = rng.choice(names), rng.choice(names)
            lines.append(f'{who} {verb} {thing}, and\n"It is {thing}!" said {whom}.')
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums are split over threads, so the same bits need the same number of them; tiny models are fastest on one."""
    torch.set_num_threads(1)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of three books."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, people in _NAMES.items():
        parts = (f"[{name} by Nobody 1900]", "CHAPTER I", prose(people, 60), "CHAPTER II", prose(people, 40))
        (folder / f"{name}.txt").write_text("\n\n\n".join(parts), encoding="utf-8")
    return folder


@pytest.fixture
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
