"""The image as `sam build` makes it, and one embedded cloud with the demo model for all tests.

Without a container engine these tests fail: they are asked for by name, and a test that is skipped proves nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker import DockerClient
from rich.console import Console

from lifecycle.deploying import Sam
from lifecycle.local.containers import IMAGE, container_engine, container_environment

# A user who is not in the image, as Lambda's is not.
STRANGER = "993"


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The container engine."""
    client = container_engine()
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: DockerClient) -> Any:
    """The image, built anew; unchanged layers come from the engine's cache."""
    Sam().build()
    return engine.images.get(IMAGE)


@pytest.fixture(scope="session")
def cloud(image: Any) -> Iterator[dict[str, str]]:
    """The environment of `sam local`, with a cloud in which the demo model is live."""
    with container_environment("demo", Console(stderr=True)) as environment:
        yield environment


@pytest.fixture(scope="session")
def python(engine: DockerClient, image: Any) -> Callable[[str], str]:
    """Runs a program in the image as Lambda would: no network, nothing writable but /tmp, an unknown user."""

    def run(program: str) -> str:
        output: bytes = engine.containers.run(
            image.id,
            entrypoint=["python", "-c"],
            command=[program],
            user=STRANGER,
            read_only=True,
            tmpfs={"/tmp": ""},
            network_mode="none",
            environment={
                "MODELS_BUCKET": "none",
                "MODEL_NAME": "none",
                "KEYS_TABLE": "none",
                "AWS_DEFAULT_REGION": "us-east-1",
            },
            remove=True,
        )
        return output.decode()

    return run
