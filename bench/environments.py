"""The peers' environments: a virtual environment each under .cache/bench, with the versions of bench/peers/NAME.txt."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class InstallError(Exception):
    """An environment cannot be had; the message says in one line why."""


def python_of(folder: Path, name: str, requirements: Path, variables: Mapping[str, str]) -> Path:
    """The Python of an environment, which is installed unless it has been, of the same requirements.

    Args:
        folder: where environments lie.
        name: the environment's name.
        requirements: the file that says what it holds.
        variables: the environment variables to install with, for what is compiled.

    Raises:
        InstallError: pip failed; its output is in `folder`/env-NAME.log.
    """
    environment, log = folder / f"env-{name}", folder / f"env-{name}.log"
    python, installed = environment / "bin" / "python", environment / "installed.txt"
    wanted = requirements.read_text()
    if installed.exists() and installed.read_text() == wanted:
        return python
    shutil.rmtree(environment, ignore_errors=True)
    with log.open("w") as output:
        # Our own pip installs there as well; one of its own would take longer than what most peers need.
        # Nothing compiled is taken from pip's cache: it does not know what variables it was compiled with.
        for command in (
            [sys.executable, "-m", "venv", "--without-pip", str(environment)],
            [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-cache-dir", "--retries", "1",
             "--requirement", str(requirements)],
        ):  # fmt: skip
            try:
                subprocess.run(command, check=True, stdout=output, stderr=output, env={**os.environ, **variables})
            except subprocess.CalledProcessError as error:
                raise InstallError(f"cannot be installed, see {log}") from error
    installed.write_text(wanted)
    return python
