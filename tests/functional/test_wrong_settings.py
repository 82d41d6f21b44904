"""A process that is set up wrongly ends with one line that says what is wrong, and no traceback."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "command",
    [("-c", "from handler.app import serve; serve()"), ("-m", "handler.container")],
    ids=["uvicorn", "container"],
)
def test_one_line_says_what_is_wrong(command: tuple[str, str]) -> None:
    environment = {"MODELS_BUCKET": "models", "MODEL_NAME": "gpt2", "KEYS_TABLE": "keys", "ENGINE": "fast"}
    ended = subprocess.run(
        [sys.executable, *command], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        1,
        "",
        "ENGINE: Input should be 'auto', 'native', 'reference', 'transformers' or 'continuous'\n",
    )
