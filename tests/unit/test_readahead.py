"""What the kernel is asked for before it is imported: what a start really reads, and little beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from handler.readahead import OURS, PACKAGES, STANDARD, files_ahead

# Where the entry point's modules and shared libraries lie, and of what is asked for how much is theirs.
IMPORTED = """
import json, sys
import handler.main
from handler.readahead import files_ahead
modules = [module for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
libraries = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
read = {getattr(module, "__cached__", None) for module in modules} | libraries
print("\\n" + json.dumps([[*{module.__file__ for module in modules} | libraries], [p in read for p in files_ahead()]]))
"""


def test_most_of_what_is_asked_for_is_imported_and_of_each_folder_something() -> None:
    environment = {"MODELS_BUCKET": "models", "MODEL_NAME": "gpt2", "AUTH_MODE": "iam", **os.environ}
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, check=True, text=True, env=environment)
    [told] = (line for line in done.stdout.splitlines() if line.startswith("["))  # the rest is the log's
    files, used = json.loads(told)
    assert sum(used) > len(used) / 2 > 100
    folders = {str(Path(file).parent) for file in files}
    named = [name.removesuffix("/__pycache__") for name in (*PACKAGES, *STANDARD, *OURS)]
    assert [name for name in named if not any(folder.endswith(f"/{name}") for folder in folders)] == []


def test_what_is_not_there_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert not any("numpy" in path for path in files_ahead())
