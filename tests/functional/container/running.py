"""A container as a process of its own, asked over real sockets."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lifecycle.local.invoke import free_port
from tests.serving import PATIENCE, wait_until_ready

SLOW = "tests.functional.container.slow_container"
LOADING = "tests.functional.container.loading_container"


@dataclass
class Container:
    """A running container: its address, and its process."""

    address: str
    process: subprocess.Popen[str]

    def terminate(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(by)

    def ended(self) -> tuple[int, list[dict[str, Any]]]:
        """Its exit status, once it has ended, and what it has logged."""
        output, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, [json.loads(line) for line in output.splitlines()]


@contextmanager
def running_container(module: str, until: str = "/readyz", **environment: str) -> Iterator[Container]:
    """Run a module as a container of this machine's, let in without a key, from when it answers at a path."""
    port = free_port()
    somewhere = {"MODELS_BUCKET": "models", "MODEL_NAME": "tiny", "AUTH_MODE": "none", "HOST": "127.0.0.1"}
    variables = {**os.environ, **somewhere, "PORT": str(port), **environment}
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}{until}")
            yield Container(f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()
