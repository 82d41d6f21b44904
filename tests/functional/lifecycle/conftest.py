"""Where an imported checkpoint comes from, and where it goes."""

from pathlib import Path

import pytest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "Tiny-GPT"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deeper" / "out"
