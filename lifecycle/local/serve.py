"""`make run` and its sisters: the application on this machine, its model in the embedded bucket.

Under uvicorn; with `run-stream` as the function whose responses stream, behind a front that plays its function URL;
with `run-container` as the process of the container.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from types import FrameType
from typing import Final, Literal, TypeAlias
from urllib.request import urlopen

from rich.console import Console

from handler.errors import InvalidRequestError
from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.models import publish_source

Way: TypeAlias = Literal["uvicorn", "function", "container"]

# Whoever can reach this address can use the model without a key, so it is this machine alone.
HOST = "127.0.0.1"

READY_SECONDS = 120

# Nobody has to notice here that the container is about to end, so it need not wait for them for long.
DRAIN_SECONDS: Final = 2


def serve(source: str, port: int, console: Console, way: Way = "uvicorn") -> int:
    """Serve a model until interrupted.

    Args:
        source: `demo`, a folder with a checkpoint, or a name on the Hugging Face hub.
        port: of this machine.
        console: where to say what is going on.
        way: how to serve it.

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
            if way == "container":
                environment |= _container_environment(port)
            server = subprocess.Popen(_COMMANDS[way](port), env=environment)
            try:
                if wait_until_ready(server, port):
                    _greet(model, port, console, way, environment)
                return server.wait()
            finally:
                server.terminate()
                server.wait()
    except KeyboardInterrupt:
        return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Leave as with Ctrl-C, so that nothing is left behind."""
    raise KeyboardInterrupt


def _try_port(port: int) -> None:
    """Raise an OSError if nobody could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))


def _check_port(port: int) -> None:
    try:
        _try_port(port)
    except OSError as error:
        raise InvalidRequestError(
            f"Port {port} cannot be used ({error.strerror}); choose another with PORT=."
        ) from error


def _next_port(port: int) -> int:
    """The next port that is free."""
    for candidate in range(port + 1, 2**16):
        with suppress(OSError):
            _try_port(candidate)
            return candidate
    raise InvalidRequestError(f"Port {port} leaves no free one above it for metrics; choose another with PORT=.")


def uvicorn_command(port: int) -> list[str]:
    """What serves the application under uvicorn."""
    return [sys.executable, "-m", "uvicorn", "--factory", "handler.app:serve", "--host", HOST, "--port", str(port),
            "--log-level", "warning"]  # fmt: skip


def function_url_command(port: int) -> list[str]:
    """What serves it as the function whose responses stream."""
    return [sys.executable, "-m", "lifecycle.local.function_url", str(port)]


def container_command(_port: int) -> list[str]:
    """What serves it as the container does; its environment says where."""
    return [sys.executable, "-m", "handler.container"]


_COMMANDS: Final = {"uvicorn": uvicorn_command, "function": function_url_command, "container": container_command}


def _container_environment(port: int) -> dict[str, str]:
    """Where the container listens, and its metrics at the next free port."""
    return {
        "HOST": HOST,
        "PORT": str(port),
        "METRICS_PORT": str(_next_port(port)),
        "DRAIN_SECONDS": str(DRAIN_SECONDS),
    }


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait for the model; False when the server ended or took too long."""
    end = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            with urlopen(f"http://{HOST}:{port}/readyz"):
                return True
        except (OSError, HTTPException):  # the latter where it was about to end, or is no server of ours
            time.sleep(0.1)
    return False


def _greet(model: str, port: int, console: Console, way: Way, environment: Mapping[str, str]) -> None:
    address = f"http://{HOST}:{port}"
    how = {"uvicorn": "", "function": ", as its Lambda function streams", "container": ", as its container does"}[way]
    console.print(f"Serving {model} on {address}{how}, its documentation on {address}/docs. Ctrl-C ends it. Try:")
    if way == "container":
        console.print(f"  curl -s http://{HOST}:{environment['METRICS_PORT']}/metrics", markup=False)
        return
    if way == "function":
        body = """'{"prompt": "Once upon a time", "max_tokens": 60, "stream": true}'"""
        console.print(
            f"  curl -sN {address}/v1/completions -H 'Content-Type: application/json' -d {body}", markup=False
        )
        return
    body = """'{"prompt": "Once upon a time"}'"""
    console.print(f"  curl -s {address}/generate_text -H 'Content-Type: application/json' -d {body}", markup=False)
