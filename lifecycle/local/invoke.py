"""`make invoke`: the function as Lambda runs it, without a container.

The runtime interface emulator (the very program that is in AWS's base images; it comes with aws-sam-cli) starts
awslambdaric, which imports `handler.main` and waits for events; or, for the function whose responses stream, our own
runtime in its place. Of a stream the emulator passes on the bytes, but all at once.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from handler.errors import NotInRegistryError

EMULATOR = "lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"

PATH = "/2015-03-31/functions/function/invocations"

INVOKE_SECONDS = 120

# What Lambda runs, as template.yaml says: answers in one piece, and answers that stream.
BUFFERED = ("awslambdaric", "handler.main.handler")
STREAMING = ("handler.runtime", "handler.main:app", "handler.main:handler")


def emulator() -> Path:
    """The emulator's program.

    Raises:
        NotInRegistryError: aws-sam-cli is not installed.
    """
    found = sorted(Path(".venv-sam").glob(EMULATOR))
    if not found:
        raise NotInRegistryError("The runtime interface emulator is missing: `make .venv-sam/.ready` installs it.")
    return found[0]


@contextmanager
def emulated_function(environment: dict[str, str], module: Sequence[str] = BUFFERED) -> Iterator[str]:
    """Run the function under the emulator.

    Args:
        environment: the function's variables, beside those of this process.
        module: the runtime's module and its arguments.

    Yields:
        The address to post events to.
    """
    port, api_port = free_port(), free_port()
    command = [
        str(emulator().resolve()),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{api_port}"),
        *(sys.executable, "-m", *module),
    ]
    # The function's log goes where errors go, so that standard output is the answer alone.
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=sys.stderr)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}{PATH}"
    finally:
        # Asked to end, the emulator ends the function first.
        process.terminate()
        process.wait()


def invoke(address: str, event: bytes) -> bytes:
    """Send one event and return the function's answer, or its error, as JSON."""
    with urlopen(Request(address, event, method="POST"), timeout=INVOKE_SECONDS) as answer:
        body: bytes = answer.read()
    return body


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(port: int) -> None:
    """Wait until something listens on a port of this machine.

    Raises:
        OSError: nothing did for ten seconds.
    """
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
