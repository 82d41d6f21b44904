"""Importing from the hub, through the real huggingface_hub client: against a stand-in, and against the hub itself."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from handler.errors import NotInRegistryError
from lifecycle.checkpoint import read_checkpoint
from lifecycle.importing import import_model
from tests.checkpoints import Arrays, old_style
from tests.functional.lifecycle.hub_standin import COMMIT, OTHER_FORMATS, hub_standin


@pytest.fixture
def weights(tmp_path: Path) -> Arrays:
    """The weights of the checkpoint that lies in the folder `hub`."""
    return old_style(tmp_path / "hub")


@pytest.fixture
def files(tmp_path: Path, weights: Arrays) -> dict[str, bytes]:
    """A repository's files that are of use, and two that are of none."""
    found = {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()}
    return found | {"README.md": b"---\nlicense: mit\n---\n", ".gitattributes": b"*.bin filter=lfs\n"}


def lifecycle_import(source: str, tmp_path: Path, endpoint: str) -> "subprocess.CompletedProcess[str]":
    """`lifecycle import` in a process of its own, for huggingface_hub reads its environment when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-W", "error", "-m", "lifecycle", "import", source, "--out", str(tmp_path / "out")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_gpt2_by_its_old_name(tmp_path: Path, weights: Arrays, files: dict[str, bytes]) -> None:
    with hub_standin(files) as hub:
        run = lifecycle_import("gpt2", tmp_path, hub.url)

    assert run.returncode == 0, run.stderr
    assert f"openai-community/gpt2@{COMMIT}" in run.stdout
    checkpoint = read_checkpoint(tmp_path / "out")
    assert checkpoint.provenance.source == f"openai-community/gpt2@{COMMIT}"
    assert checkpoint.provenance.license == "mit"
    assert {name: data.tobytes() for name, data in load_file(tmp_path / "out" / "model.safetensors").items()} == {
        name: data.tobytes() for name, data in weights.items()
    }
    assert hub.asked_for_models() == ["gpt2", "openai-community/gpt2"]
    wanted = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(hub.downloaded()) == wanted
    touched = "\n".join(path for _, path in hub.requests)
    assert [name for name in OTHER_FORMATS if name in touched] == []


def test_a_second_import_downloads_nothing(tmp_path: Path, files: dict[str, bytes]) -> None:
    with hub_standin(files) as hub:
        assert lifecycle_import("gpt2", tmp_path, hub.url).returncode == 0
        hub.requests.clear()
        (tmp_path / "out").rename(tmp_path / "first")
        assert lifecycle_import("openai-community/gpt2", tmp_path, hub.url).returncode == 0
        assert hub.asked_for_models() == ["openai-community/gpt2"]
        assert hub.downloaded() == []


def test_shards_are_fetched(tmp_path: Path, files: dict[str, bytes]) -> None:
    files["model-00001-of-00001.safetensors"] = files.pop("model.safetensors")
    with hub_standin(files) as hub:
        run = lifecycle_import("gpt2", tmp_path, hub.url)
    assert run.returncode == 0, run.stderr
    assert "model-00001-of-00001.safetensors" in hub.downloaded()


def test_without_safetensors_nothing_is_downloaded(tmp_path: Path, files: dict[str, bytes]) -> None:
    del files["model.safetensors"]
    with hub_standin(files) as hub:
        run = lifecycle_import("gpt2", tmp_path, hub.url)
    assert run.returncode == 1
    assert run.stderr.startswith("error: gpt2 has no safetensors. Convert it once with transformers:")
    assert hub.downloaded() == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody/nothing", "error: nobody/nothing: the hub has no such model, or it is private"),
        (
            "a/b/c",
            "error: 'a/b/c' is neither a folder with a config.json nor a name on the hub, as gpt2",
        ),
    ],
)
def test_what_the_hub_does_not_have(tmp_path: Path, source: str, message: str) -> None:
    with hub_standin({}) as hub:
        run = lifecycle_import(source, tmp_path, hub.url)
    assert run.returncode == 1
    assert run.stderr.startswith(message)
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), "error: gpt2 is gated: accept its terms on the hub and set HF_TOKEN\n"),
        ((501, ""), "error: gpt2: the hub cannot be reached: "),
    ],
)
def test_files_that_the_hub_does_not_hand_out(
    tmp_path: Path, files: dict[str, bytes], refusal: tuple[int, str], message: str
) -> None:
    with hub_standin(files) as hub:
        hub.refusal = refusal
        run = lifecycle_import("gpt2", tmp_path, hub.url)
    assert run.returncode == 1
    assert run.stderr.startswith(message)
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("listening", [False, True], ids=["refuses", "never answers"])
def test_a_hub_that_does_not_answer_is_given_up_soon(tmp_path: Path, *, listening: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listening:
            silent.listen()
        started = time.monotonic()
        run = lifecycle_import("gpt2", tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert "the hub" in run.stderr
    assert run.stderr.count("\n") == 1
    assert time.monotonic() - started < 10  # 5 s of patience, and a slow machine's start of the process


@pytest.mark.hub
def test_the_real_gpt2(tmp_path: Path) -> None:
    checkpoint = import_model("gpt2", tmp_path / "gpt2")
    assert checkpoint.provenance.source.startswith("openai-community/gpt2@")
    assert checkpoint.provenance.license == "mit"
    assert checkpoint.architecture.parameters == 124_439_808
    assert checkpoint.dtype == "F32"
    assert json.loads((tmp_path / "gpt2" / "config.json").read_text())["eos_token_id"] == 50256
    with pytest.raises(NotInRegistryError):
        import_model("gpt2-serverless-tests/there-is-no-such-model", tmp_path / "nothing")
