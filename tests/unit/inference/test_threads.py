"""How many processors a process may keep busy."""

import os
from pathlib import Path

import pytest

from handler.inference.threads import available_processors


@pytest.fixture(autouse=True)
def _eight_visible_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(("memory", "expected"), [(128, 1), (1769, 1), (3008, 2), (3538, 2), (10240, 6), (32768, 8)])
def test_lambda_grants_processors_with_memory(memory: int, expected: int, tmp_path: Path) -> None:
    assert available_processors({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory)}, tmp_path) == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)]
)
def test_a_control_group_bounds_them(quota: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_processors({}, tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3)])
def test_so_does_one_of_version_1(quota: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_processors({}, tmp_path) == expected


def test_without_either_all_that_are_visible(tmp_path: Path) -> None:
    assert available_processors({}, tmp_path) == 8
