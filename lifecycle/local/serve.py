"""`make run` and `make run-stream`: the application on this machine, its model in the embedded bucket.

Under uvicorn, or as the function whose responses stream, behind a front that plays its function URL.
"""

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


def serve(source: str, port: int, console: Console, *, as_function: bool = False) -> int:
    """Serve a model until interrupted.

    Args:
        source: `demo`, a folder with a checkpoint, or a name on the Hugging Face hub.
        port: of this machine.
        console: where to say what is going on.
        as_function: serve it the way it runs on Lambda.

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
            command = function_url_command if as_function else uvicorn_command
            server = subprocess.Popen(command(port), env=environment)
            try:
                if wait_until_ready(server, port):
                    _greet(model, port, console, as_function=as_function)
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


def uvicorn_command(port: int) -> list[str]:
    """What serves the application under uvicorn."""
    return [sys.executable, "-m", "uvicorn", "--factory", "handler.app:serve", "--host", HOST, "--port", str(port),
            "--log-level", "warning"]  # fmt: skip


def function_url_command(port: int) -> list[str]:
    """What serves it as the function whose responses stream."""
    return [sys.executable, "-m", "lifecycle.local.function_url", str(port)]


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


def _greet(model: str, port: int, console: Console, *, as_function: bool) -> None:
    address = f"http://{HOST}:{port}"
    how = ", as its Lambda function streams" if as_function else ""
    console.print(f"Serving {model} on {address}{how}, its documentation on {address}/docs. Ctrl-C ends it. Try:")
    if as_function:
        body = """'{"prompt": "Once upon a time", "max_tokens": 60, "stream": true}'"""
        console.print(
            f"  curl -sN {address}/v1/completions -H 'Content-Type: application/json' -d {body}", markup=False
        )
        return
    body = """'{"prompt": "Once upon a time"}'"""
    console.print(f"  curl -s {address}/generate_text -H 'Content-Type: application/json' -d {body}", markup=False)
