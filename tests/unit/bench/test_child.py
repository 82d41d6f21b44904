from pathlib import Path

import pytest

from bench.peers.child import made


def test_is_made_once(tmp_path: Path) -> None:
    made(tmp_path / "new" / "folder", Path.mkdir).joinpath("mark").touch()
    assert made(tmp_path / "new" / "folder", Path.mkdir).joinpath("mark").exists()


def test_what_was_left_half_made_is_made_anew(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.mkdir()
        (path / "half").touch()
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        made(tmp_path / "folder", fail)
    assert list(made(tmp_path / "folder", Path.mkdir).iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
