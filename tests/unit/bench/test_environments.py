import subprocess
from pathlib import Path

import pytest

from bench.environments import InstallError, python_of


def test_installs_once_and_again_when_the_requirements_change(tmp_path: Path) -> None:
    requirements = tmp_path / "peer.txt"
    requirements.write_text("# nothing\n")
    python = python_of(tmp_path, "peer", requirements, {})
    assert subprocess.run([python, "-c", "print(6)"], capture_output=True, check=True).stdout == b"6\n"
    (python.parent / "mark").touch()
    assert python_of(tmp_path, "peer", requirements, {}) == python
    assert (python.parent / "mark").exists()
    requirements.write_text("./no-such-package.whl\n")
    with pytest.raises(InstallError, match=r"cannot be installed, see .*env-peer\.log"):
        python_of(tmp_path, "peer", requirements, {})
    assert not (python.parent / "mark").exists()
    assert "no-such-package" in (tmp_path / "env-peer.log").read_text()
