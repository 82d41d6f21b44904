"""`make sam-invoke` and `make sam-api`: the function in its own container, as `sam build` made it.

The container reads its model and the keys over the network from the embedded cloud, which therefore listens on the
address of this machine that containers reach. `sam local` hands on every variable that the template declares.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import docker
from docker.errors import DockerException
from rich.console import Console

from handler.errors import StoreUnavailableError
from lifecycle.local.cloud import LOCAL_KEY, embedded_cloud
from lifecycle.local.models import publish_source

SAM = ".venv-sam/bin/sam"

FUNCTION = "ApiFunction"

# What `sam build` calls the function's image with DockerTag: latest.
IMAGE = "apifunction:latest"

HOST = "127.0.0.1"

# The first request comes when the container is up, but torch and the model may still be on their way.
START_SECONDS = 180

# After an interrupt sam removes its containers.
STOP_SECONDS = 60


@contextmanager
def container_environment(source: str, console: Console) -> Iterator[dict[str, str]]:
    """Publish a model into an embedded cloud that containers reach.

    Args:
        source: `demo`, a folder with a checkpoint, or a name on the Hugging Face hub.
        console: where to say what is going on.

    Yields:
        The environment to run `sam local` in.

    Raises:
        StoreUnavailableError: no container engine answers.
        DockerException: the function's image has not been built.
    """
    gateway = _gateway()
    if gateway is not None and not _is_ours(gateway):
        # podman makes the bridge, and with it this address, only when the first container needs it.
        container_engine().containers.run(IMAGE, entrypoint=["python", "-c", "pass"], remove=True)
    # Where containers run in a virtual machine (Docker Desktop), their gateway is no address of this machine, and
    # Docker gives the loopback interface a name instead.
    here = gateway is not None and _is_ours(gateway)
    with embedded_cloud(gateway if gateway and here else HOST) as cloud:
        model = publish_source(source, cloud.store, console)
        host = HOST if here else "host.docker.internal"
        yield {**os.environ, **cloud.environment(model, host=host), "SAM_CLI_TELEMETRY": "0"}


def sam_invoke(event: Path, environment: dict[str, str], function: str = FUNCTION) -> bytes:
    """Send an event to a fresh container and return its answer, or its error; its log goes to stderr.

    Raises:
        StoreUnavailableError: sam failed; it has said why.
    """
    command = [SAM, "local", "invoke", function, "--event", str(event)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise StoreUnavailableError(f"{SAM} local invoke ended with status {done.returncode}")
    return done.stdout


@contextmanager
def sam_api(port: int, environment: dict[str, str]) -> Iterator[str]:
    """Run the HTTP API in front of a container that stays.

    Yields:
        The API's address, once it answers.

    Raises:
        StoreUnavailableError: it did not start; sam has said why.
    """
    address = f"http://{HOST}:{port}"
    command = [SAM, "local", "start-api", "--host", HOST, "--port", str(port)]
    # In a session of its own, so that a Ctrl-C reaches it from here alone, once.
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)
    try:
        _wait_until_healthy(process, address)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_SECONDS)


def serve(source: str, port: int, console: Console) -> None:
    """Serve the API until interrupted."""
    with container_environment(source, console) as environment, sam_api(port, environment) as address:
        body = json.dumps({"prompt": "Once upon a time"})
        console.print(f"Serving on {address}. Ctrl-C ends it. Try:")
        # Not through rich, which would break the line.
        print(  # noqa: T201
            f"  curl -s {address}/generate_text -H 'Authorization: Bearer {LOCAL_KEY}'"
            f" -H 'Content-Type: application/json' -d '{body}'",
            flush=True,
        )
        try:
            signal.pause()
        except KeyboardInterrupt:
            console.print("Stopping.")


def container_engine() -> docker.DockerClient:
    """A client of the container engine.

    Raises:
        StoreUnavailableError: none answers.
    """
    try:
        return docker.from_env()
    except DockerException as error:
        raise StoreUnavailableError(f"No container engine answers; is Docker running? ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """What the system said, which the client wraps several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error)


def _gateway() -> str | None:
    """The address under which containers on the default network reach the machine they run on."""
    networks = container_engine().networks.get("bridge").attrs["IPAM"]["Config"] or [{}]
    gateway: str | None = networks[0].get("Gateway")
    return gateway


def _is_ours(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            urlopen(f"{address}/healthz", timeout=START_SECONDS).close()
        except (OSError, HTTPException):
            time.sleep(0.2)
        else:
            return
    raise StoreUnavailableError(f"{SAM} local start-api did not answer within {START_SECONDS} s")
