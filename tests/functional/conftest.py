"""An S3 of moto's, behind a real port: what reads from it does so over real connections."""

import asyncio
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer
from rich.console import Console

from handler.registry.s3 import s3_client
from lifecycle.local.cloud import Cloud, embedded_cloud
from lifecycle.local.models import publish_source
from lifecycle.store import WritableStore
from tests.functional.batch_place import Place, running_place


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A stand-in for AWS in which the demo model is live."""
    with embedded_cloud() as cloud:
        publish_source("demo", cloud.store, Console(quiet=True))
        yield cloud


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """moto in place of AWS: its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, empty, with the environment pointing to it."""
    urlopen(Request(f"{moto_server}/moto-api/reset", method="POST")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    return moto_server


@pytest.fixture
def store(aws: str) -> WritableStore:
    """An empty models bucket."""
    client = s3_client()
    client.create_bucket(Bucket="models-bucket")
    return WritableStore(client, "models-bucket")


@pytest.fixture
def place(aws: str) -> Iterator[Place]:
    with running_place() as place:
        yield place


@pytest.fixture(scope="module")
def mangum_loop() -> Iterator[None]:
    """The loop Mangum runs requests on: that of the main thread, which on Lambda lives as long as the process."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
