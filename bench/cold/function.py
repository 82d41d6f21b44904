"""Cold starts of the function: a fresh process under the real emulator and runtime client, asked for one token.

Its packages are those of the image, in an environment of their own: what else is installed here for development would
be looked through, and some of it imported. It has the image's list of what to read ahead, too, of its own paths.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Final

from bench.engine import CACHE, ROOT
from bench.environments import python_of
from handler.stages import boot_time, process_start
from lifecycle.local.invoke import PATH, emulator, free_port, invoke, wait_for

EVENT: Final = json.dumps({"prompt": "Once upon a time", "max_tokens": 1, "temperature": 0}).encode()

# What the image sets, to start faster.
IMAGE: Final = {"PYTHONUNBUFFERED": "1", "PYDANTIC_DISABLE_PLUGINS": "true", "OPENBLAS_NUM_THREADS": "1"}

PATIENCE_SECONDS: Final = 20.0

# Where the list of what to read ahead is kept.
_LISTED: Final = CACHE / "read-ahead.txt"

# What FastAPI would import if it were there, and the Dockerfile takes away.
_NOT_IN_THE_IMAGE: Final = "lib/python3*/site-packages/pydantic/v1"


@dataclass(frozen=True, slots=True)
class Start:
    """One cold start.

    Attributes:
        stages: seconds from the start of the process to each stage.
        began: when the process was started, on the clock of `time.time()`.
        peak: the most memory it has had, in MB.
    """

    stages: Mapping[str, float]
    began: float
    peak: float


class StartError(Exception):
    """The function has not answered, or not said how it started."""


def environment(model: str, port: int, **more: str) -> dict[str, str]:
    """What a function is told whose model lies in the store on this port."""
    return {
        "MODELS_BUCKET": "models",
        "MODEL_NAME": model,
        "KEYS_TABLE": "none",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "PATH": "/usr/bin:/bin",
        "READ_AHEAD": str(_LISTED),
        **IMAGE,
        **more,
    }


@lru_cache(maxsize=1)
def image_python() -> Path:
    """The Python of an environment that holds what the image does; it is made once, its list each time.

    Raises:
        InstallError: it cannot be had.
    """
    python = python_of(CACHE, "image", ROOT / "requirements/image.txt", {})
    for folder in python.parent.parent.glob(_NOT_IN_THE_IMAGE):
        shutil.rmtree(folder)
    nowhere = environment("none", 9)  # a port that nobody listens to
    command = [str(python), "-m", "handler.readahead_list"]
    subprocess.run(command, cwd=ROOT, env=nowhere, check=True, stdout=subprocess.DEVNULL)
    return python


def cold_start(variables: Mapping[str, str], until: Callable[[], bool] = lambda: True) -> Start:
    """Start the function, ask it for a token and end it, once `until` is true.

    Raises:
        StartError: something went wrong; the message holds the end of its log.
    """
    port, api_port = free_port(), free_port()
    command = [
        str(emulator().resolve()),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{api_port}"),
        *(str(image_python()), "-m", "awslambdaric", "handler.main.handler"),
    ]
    lines: list[str] = []
    process = subprocess.Popen(
        command, env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    reader = threading.Thread(target=_collect, args=(process.stdout, lines))
    reader.start()
    try:
        wait_for(port)
        answer = json.loads(invoke(f"http://127.0.0.1:{port}{PATH}", EVENT))
        function = _child(process.pid)
        began = time.time() - (boot_time() - process_start(function / "stat"))
        peak = _peak(function)
        end = time.monotonic() + PATIENCE_SECONDS
        while not until() and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        process.terminate()
        process.wait()
        reader.join()
    said = [json.loads(line) for line in lines if line.startswith('{"level"')]
    stages = [line["stages"] for line in said if line.get("message") == "cold start"]
    if "choices" not in answer or len(stages) != 1:
        raise StartError(f"no cold start: {answer}\n{''.join(lines[-5:])}")
    return Start(stages[0], began, peak)


def _collect(stream: IO[str], lines: list[str]) -> None:
    lines.extend(stream)


def _child(pid: int) -> Path:
    """What the kernel says of the process that the emulator has started: a folder of /proc (proc(5))."""
    children = [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return Path(f"/proc/{children[0]}")


def _peak(process: Path) -> float:
    """The most memory a process has had, its VmHWM, in MB."""
    status = (process / "status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
