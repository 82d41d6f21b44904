"""The application under uvicorn in a process of its own, its model and keys in an embedded cloud."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from lifecycle.local.cloud import Cloud
from lifecycle.local.invoke import free_port


@contextmanager
def server(cloud: Cloud, model: str, **environment: str) -> Iterator[str]:
    """Serve a model of the cloud's bucket; yields the server's address.

    Args:
        cloud: where the model and the keys are.
        model: its name there.
        environment: more of what the server is told.
    """
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "handler.app:serve", "--port", str(port)]
    variables = {**os.environ, **cloud.environment(model), **environment}
    with subprocess.Popen([*command, "--log-level", "warning"], env=variables) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}/readyz")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_until_ready(address: str) -> None:
    """Ask until an address answers with success.

    Raises:
        TimeoutError: it does not, for a minute.
    """
    for _ in range(600):
        try:
            urlopen(address).close()
        except URLError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(address)
