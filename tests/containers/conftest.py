"""The image as `sam build` makes it, and one embedded cloud with the demo model for all tests.

Without a container engine these tests fail: they are asked for by name, and a test that is skipped proves nothing.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from docker import DockerClient
from rich.console import Console

from handler.registry.s3 import s3_client
from lifecycle.deploying import Sam
from lifecycle.importing import import_model
from lifecycle.local.containers import IMAGE, container_engine, container_environment
from lifecycle.local.models import publish_source
from lifecycle.store import WritableStore
from tests.causal_models import llama_folder

# A user who is not in the image, as Lambda's is not.
STRANGER = "993"

NOWHERE = {"MODELS_BUCKET": "none", "MODEL_NAME": "none", "KEYS_TABLE": "none", "AWS_DEFAULT_REGION": "us-east-1"}


class Python(Protocol):
    """Runs a program in the image as Lambda would: nothing writable but /tmp, an unknown user."""

    def __call__(self, program: str, environment: Mapping[str, str] | None = None) -> str:
        """What it prints; without a cloud's environment there is no network."""


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
def llama(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another architecture, live in the same cloud as `llama`."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    import_model(str(llama_folder(folder.with_name("source"))), folder)
    publish_source(str(folder), WritableStore(s3_client(), cloud["MODELS_BUCKET"]), Console(stderr=True))
    return folder


@pytest.fixture(scope="session")
def python(engine: DockerClient, image: Any) -> Python:
    """The image's interpreter."""

    def run(program: str, environment: Mapping[str, str] | None = None) -> str:
        output: bytes = engine.containers.run(
            image.id,
            entrypoint=["python", "-c"],
            command=[program],
            user=STRANGER,
            read_only=True,
            tmpfs={"/tmp": ""},
            network_mode="bridge" if environment else "none",
            environment=environment or NOWHERE,
            remove=True,
        )
        return output.decode()

    return run
