"""`make run` and its sisters serve what they are asked for, or say what instead, and leave nothing behind."""

import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from lifecycle.local.invoke import free_port
from tests.checkpoints import old_style
from tests.serving import serving, wait_until


def generate(address: str) -> str:
    body = json.dumps({"prompt": "Once upon a time", "max_length": 40}).encode()
    request = Request(f"{address}/generate_text", body, {"Content-Type": "application/json"})
    with urlopen(request) as answer:
        text: str = json.loads(answer.read())[0]["generated_text"]
    return text


def served_model(address: str) -> str:
    with urlopen(f"{address}/readyz") as answer:
        model: str = json.loads(answer.read())["model"]
    return model


def port_before_a_taken_one() -> tuple[int, socket.socket]:
    """A free port, and what listens at the next one."""
    while True:
        port = free_port()
        with suppress(OSError):
            return port, socket.create_server(("127.0.0.1", port + 1))


def metrics(lines: list[str]) -> str:
    """What the address shows that the last line says."""
    with urlopen(lines[-1].removeprefix("  curl -s ")) as answer:
        shown: str = answer.read().decode()
    return shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo model is packed once."""
    return tmp_path_factory.mktemp("demo")


def test_the_demo_model_is_served_without_a_key(folder: Path) -> None:
    with serving("demo", folder) as (address, lines):
        assert generate(address).startswith("Once upon a time")
    assert any(f"Serving demo on {address}" in line for line in lines)
    assert [path.name for path in (folder / ".cache").iterdir()] == ["packed"]  # what the next start finds
    assert [path.name for path in folder.iterdir()] == [".cache"]


def test_it_is_served_as_a_function_that_streams(folder: Path) -> None:
    with serving("demo", folder, "stream") as (address, lines):
        assert generate(address).startswith("Once upon a time")
    assert any(f"Serving demo on {address}, as its Lambda function streams" in line for line in lines)


def test_it_is_served_as_its_container_does(folder: Path) -> None:
    with serving("demo", folder, "container") as (address, lines):
        assert generate(address).startswith("Once upon a time")
        # A request is counted when its answer has gone out, which may be a moment later.
        wait_until(lambda: 'gpt2_requests_total{route="/generate_text",status="200"} 1.0\n' in metrics(lines))
        assert 'gpt2_completion_tokens_total{model="demo"}' in metrics(lines)
    assert any(f"Serving demo on {address}, as its container does" in line for line in lines)


def test_a_containers_metrics_are_where_nobody_else_is(folder: Path) -> None:
    port, taken = port_before_a_taken_one()
    with taken, serving("demo", folder, "container", port=port) as (_, lines):
        assert int(lines[-1].removesuffix("/metrics").rpartition(":")[2]) > port + 1
        assert "gpt2_places" in metrics(lines)


def test_a_checkpoint_in_a_folder_is_imported_and_served(tmp_path: Path) -> None:
    old_style(tmp_path / "My-Model")
    with serving(str(tmp_path / "My-Model"), tmp_path) as (address, _):
        assert served_model(address) == "my-model"
        assert generate(address).startswith("Once upon a time")


def test_where_the_hub_does_not_answer_the_demo_model_takes_its_place(folder: Path) -> None:
    with serving("gpt2", folder, HF_ENDPOINT="http://127.0.0.1:9") as (address, lines):
        assert served_model(address) == "demo"
    assert any("serving the bundled demo model instead" in line for line in lines)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "lifecycle.local", "serve", "--model", "demo", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 1
    assert done.stderr == f"Port {port} cannot be used (Address already in use); choose another with PORT=.\n"
