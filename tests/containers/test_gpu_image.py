"""The image of the GPU service, CPU torch standing in for CUDA: what it holds, how it serves, how it ends."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from docker import DockerClient

from lifecycle.local.cloud import LOCAL_KEY
from tests.books import write_books
from tests.containers.conftest import NOWHERE
from tests.exchanges import events_of
from tests.serving import PATIENCE, wait_until, wait_until_ready

pytestmark = pytest.mark.container

CPU_TORCH = "torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu"

KEY = {"Authorization": f"Bearer {LOCAL_KEY}"}


@pytest.fixture(scope="module")
def build(engine: DockerClient) -> Callable[[str], Any]:
    """Builds a target of the Dockerfile; unchanged layers come from the engine's cache."""

    def of(target: str) -> Any:
        options = {"dockerfile": "infra/gpu.Dockerfile", "target": target, "buildargs": {"TORCH": CPU_TORCH}}
        image, _ = engine.images.build(path=".", rm=True, tag=f"gpt2-gpu:{target}-test", **options)
        return image

    return of


@pytest.fixture(scope="module")
def gpu_image(build: Callable[[str], Any]) -> Any:
    """The serving image."""
    return build("serve")


@pytest.fixture
def container(engine: DockerClient, gpu_image: Any, cloud: dict[str, str]) -> Iterator[Any]:
    """A container that serves the demo model, under the restrictions that its task has on ECS."""
    variables = {name: cloud[name] for name in cloud if name.startswith("AWS_") or name in NOWHERE}
    running = engine.containers.run(
        gpu_image.id,
        detach=True,
        read_only=True,
        cap_drop=["ALL"],
        environment={**variables, "RESULTS_BUCKET": cloud["RESULTS_BUCKET"], "DRAIN_SECONDS": "60"},
        ports={"8080/tcp": ("127.0.0.1", None)},
    )
    try:
        yield running
    finally:
        running.remove(force=True, v=True)


@pytest.fixture
def client(container: Any) -> Iterator[httpx.Client]:
    """A client of it, once the model is there."""
    container.reload()
    [bound] = container.ports["8080/tcp"]
    address = f"http://127.0.0.1:{bound['HostPort']}"
    wait_until_ready(f"{address}/readyz")
    with httpx.Client(base_url=address, timeout=PATIENCE) as found:
        yield found


def test_starts_the_service_as_nobody(gpu_image: Any) -> None:
    config = gpu_image.attrs["Config"]
    assert config["Entrypoint"] == ["python", "-m", "handler.container"]
    assert (config["User"], config["WorkingDir"].rstrip("/")) == ("65534", "/srv")
    assert list(config["Volumes"]) == ["/tmp"]


def test_serves_whoever_has_a_key_and_writes_nowhere_but_in_its_own_folder(
    client: httpx.Client, container: Any
) -> None:
    body = {"prompt": "The old man", "max_tokens": 8, "temperature": 0}
    first, again = (client.post("/v1/completions", json=body, headers=KEY) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json()["usage"] == {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}
    assert first.json()["choices"] == again.json()["choices"]
    assert client.post("/v1/completions", json=body).status_code == 401

    def status_of(command: str) -> int:
        status: int = container.exec_run(["sh", "-c", command]).exit_code
        return status

    assert container.exec_run(["id", "-u"]).output.strip() == b"65534"
    assert status_of("touch /tmp/here") == 0
    assert [place for place in ("/srv", "/opt/venv", "/var/lib") if status_of(f"touch {place}/here") == 0] == []


def test_finishes_what_is_under_way_when_it_is_told_to_stop(client: httpx.Client, container: Any) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 200, "temperature": 0, "stream": True}
    with client.stream("POST", "/v1/completions", json=body, headers=KEY) as stream:
        text = stream.iter_text()
        beginning = next(text)
        container.kill("SIGTERM")
        wait_until(lambda: client.get("/readyz").status_code == 503)
        rest = "".join(text)
    assert events_of(beginning + rest)[-1] == "[DONE]"
    assert container.wait(timeout=PATIENCE)["StatusCode"] == 0


def test_holds_what_serves_on_a_gpu_compiled_and_nothing_of_the_build(engine: DockerClient, gpu_image: Any) -> None:
    program = """
import importlib.util, json, os, pathlib, shutil
import torch, transformers
sources = [path for path in pathlib.Path("/srv").rglob("*.py")]
print(json.dumps({
    "task": sorted(os.listdir("/srv")),
    "tools": [tool for tool in ("gcc", "g++", "make") if shutil.which(tool)],
    "packages": [name for name in ("pip", "pytest", "lifecycle", "moto", "peft") if importlib.util.find_spec(name)],
    "not compiled": [str(path) for path in sources if not os.path.exists(importlib.util.cache_from_source(str(path)))],
    "torch": torch.__version__,
}))
"""
    assert run(engine, gpu_image, ["python", "-c"], [program]) == {
        "task": ["handler"],
        "tools": [],
        "packages": [],
        "not compiled": [],
        "torch": "2.13.0+cpu",
    }


def test_the_other_target_trains(engine: DockerClient, build: Callable[[str], Any], tmp_path: Path) -> None:
    image = build("lifecycle")
    assert image.attrs["Config"]["Entrypoint"] == ["python", "-m", "lifecycle"]
    assert image.attrs["Config"]["User"] == "65534"
    books = write_books(tmp_path / "books")
    sizes = "--vocabulary 300 --context 16 --width 16 --layers 1 --heads 2"
    steps = "--batch-size 2 --steps 2 --warmup 1 --eval-every 2"
    program = f"""
import json, os, subprocess, sys
import peft, transformers
command = "train /books --out /tmp/tiny --hold-out tower {sizes} {steps}"
subprocess.run([sys.executable, "-m", "lifecycle", *command.split()], check=True, stdout=sys.stderr)
print(json.dumps(sorted(os.listdir("/tmp/tiny"))))
"""
    made = run(engine, image, ["python", "-c"], [program], volumes={str(books): {"bind": "/books", "mode": "ro"}})
    model = ["config.json", "generation_config.json", "model.safetensors", "provenance.json", "tokenizer.json"]
    assert made == sorted([*model, "run"])


def run(engine: DockerClient, image: Any, entrypoint: list[str], command: list[str], **options: Any) -> Any:
    """What a program prints as JSON, in a container without a network."""
    output: bytes = engine.containers.run(
        image.id, entrypoint=entrypoint, command=command, read_only=True, network_mode="none", remove=True, **options
    )
    return json.loads(output)
