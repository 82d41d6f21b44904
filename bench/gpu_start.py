"""How long a container takes from the start of its process to its first token, the model in a store on this machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.invoke import free_port
from lifecycle.local.serve import wait_until_ready
from lifecycle.promoting import LIVE, promote
from lifecycle.publishing import publish


class StartError(Exception):
    """A container has not started."""


def seconds_to_first_token(folder: Path, engine: str, device: str) -> float:
    """Start a container, ask it for a token, and end it.

    Args:
        folder: a checkpoint.
        engine: ENGINE.
        device: DEVICE.

    Raises:
        StartError: it does not serve; its log says why.
    """
    port = free_port()
    with embedded_cloud() as cloud:
        manifest = publish(folder, cloud.store, "measured")
        promote(cloud.store, manifest.name, manifest.version, LIVE, why="to be measured", force=True)
        where = {"ENGINE": engine, "DEVICE": device, "AUTH_MODE": "none", "HOST": "127.0.0.1", "PORT": str(port)}
        environment = {**os.environ, **cloud.environment(manifest.name), **where}
        started = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "handler.container"], env=environment, stdout=sys.stderr
        ) as server:
            try:
                if not wait_until_ready(server, port):
                    raise StartError(f"ENGINE={engine} DEVICE={device}: the container does not serve")
                body = {"prompt": [0], "max_tokens": 1}
                httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=60).raise_for_status()
                return time.perf_counter() - started
            finally:
                server.kill()
