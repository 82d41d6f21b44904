"""Which version of this project is running: a part of the lineage of whatever it makes."""

import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which

_PACKAGE = "gpt2-serverless"


@lru_cache(maxsize=1)
def code_version() -> str | None:
    """The version of the package and, in a clone, the commit, with `-dirty` where something was changed since.

    None where neither is known.
    """
    git, root = which("git"), Path(__file__).parent.parent
    commit = None
    if git and (root / ".git").exists():  # a folder, or in a worktree a file; not the repository of somebody around us
        command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - nothing of anybody's
        commit = done.stdout.strip() or None
    try:
        package = f"{_PACKAGE} {version(_PACKAGE)}"
    except PackageNotFoundError:
        return commit
    return f"{package} ({commit})" if commit else package
