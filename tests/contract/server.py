"""A server that checks API keys, with the demo model: the application under uvicorn, in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.invoke import free_port
from lifecycle.local.models import publish_source


@contextmanager
def demo_server() -> Iterator[str]:
    """Run it; yields its address once it is ready."""
    port = free_port()
    with embedded_cloud() as cloud:
        model = publish_source("demo", cloud.store, Console(quiet=True))
        command = [sys.executable, "-m", "uvicorn", "--factory", "handler.app:serve", "--port", str(port)]
        with subprocess.Popen(command, env={**os.environ, **cloud.environment(model)}) as server:
            try:
                wait_until_ready(f"http://127.0.0.1:{port}")
                yield f"http://127.0.0.1:{port}"
            finally:
                server.terminate()


def wait_until_ready(address: str) -> None:
    """Wait for the model, for a minute at most."""
    for _ in range(600):
        try:
            urlopen(f"{address}/readyz").close()
        except URLError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(address)
