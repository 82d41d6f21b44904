"""`make run`: the application under uvicorn on this machine, its model in the embedded bucket."""

import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

from handler.errors import InvalidRequestError
from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.models import publish_source

# Whoever can reach this address can use the model without a key, so it is this machine alone.
HOST = "127.0.0.1"

READY_SECONDS = 120


def serve(source: str, port: int, console: Console) -> int:
    """Serve a model until interrupted.

    Returns:
        The exit status: 0 after an interruption, else that of the server.

    Raises:
        InvalidRequestError: the port is taken.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    _check_port(port)
    try:
        with embedded_cloud() as cloud:
            model = publish_source(source, cloud.store, console)
            environment = {**os.environ, **cloud.environment(model), "AUTH_MODE": "none"}
            server = subprocess.Popen(uvicorn(port), env=environment)
            try:
                if wait_until_ready(server, port):
                    _greet(model, port, console)
                return server.wait()
            finally:
                server.terminate()
                server.wait()
    except KeyboardInterrupt:
        return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Leave as with Ctrl-C, so that nothing is left behind."""
    raise KeyboardInterrupt


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InvalidRequestError(
                f"Port {port} cannot be used ({error.strerror}); choose another with PORT=."
            ) from error


def uvicorn(port: int) -> list[str]:
    """The command that serves the application."""
    return [sys.executable, "-m", "uvicorn", "--factory", "handler.app:serve", "--host", HOST, "--port", str(port),
            "--log-level", "warning"]  # fmt: skip


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait for the model; False when the server ended or took too long."""
    end = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            with urlopen(f"http://{HOST}:{port}/readyz"):
                return True
        except URLError:
            time.sleep(0.1)
    return False


def _greet(model: str, port: int, console: Console) -> None:
    address = f"http://{HOST}:{port}"
    console.print(f"Serving {model} on {address}, its documentation on {address}/docs. Ctrl-C ends it. Try:")
    body = """'{"prompt": "Once upon a time"}'"""
    console.print(f"  curl -s {address}/generate_text -H 'Content-Type: application/json' -d {body}", markup=False)
