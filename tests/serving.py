"""Servers that tests ask over real sockets: the application in a thread or in a process of its own, and `make run`."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import uvicorn
from fastapi import FastAPI
from openai import OpenAI
from rich.console import Console
from starlette.types import ASGIApp, Receive, Scope, Send

from lifecycle.local.cloud import Cloud, embedded_cloud
from lifecycle.local.function_url import FunctionUrl
from lifecycle.local.invoke import free_port
from lifecycle.local.models import publish_source
from tests.runtimes import running

PATIENCE = 30.0  # how long a failing test takes


@contextmanager
def served(app: ASGIApp) -> Iterator[OpenAI]:
    """The application under uvicorn, in a thread; yields a client of it."""
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        address = f"http://127.0.0.1:{server.config.port}/v1"
        with OpenAI(base_url=address, api_key="any", max_retries=0) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


class OnLambda:
    """An application behind a function URL, in our own runtime."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._url: ASGIApp = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._url(scope, receive, send)
            return
        await receive()
        async with running(self._app) as api:
            self._url = FunctionUrl(api)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


Way = Callable[[FastAPI], ASGIApp]

both_ways = pytest.mark.parametrize("way", [lambda app: app, OnLambda], ids=["uvicorn", "function-url"])


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


@contextmanager
def demo_server() -> Iterator[str]:
    """The same with the demo model, in a cloud of its own."""
    with embedded_cloud() as cloud:
        model = publish_source("demo", cloud.store, Console(quiet=True))
        with server(cloud, model) as address:
            yield address


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


@contextmanager
def serving(
    model: str, folder: Path, command: str = "serve", port: int | None = None, **environment: str
) -> Iterator[tuple[str, list[str]]]:
    """Run the server in a folder, at a free port by default; yields its address and what it says until it serves."""
    port = port or free_port()
    arguments = [sys.executable, "-m", "lifecycle.local", command, "--model", model, "--port", str(port)]
    process = subprocess.Popen(
        arguments, cwd=folder, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:
            lines.append(line.rstrip())
            if "curl" in line:
                break
        yield f"http://127.0.0.1:{port}", lines
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)  # until every process it started has closed its end
        assert process.returncode == 0, rest
        assert "Traceback" not in rest
        with socket.socket() as probe:  # nobody listens there any more
            assert probe.connect_ex(("127.0.0.1", port)) != 0
