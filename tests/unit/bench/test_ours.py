import os
from pathlib import Path

import pytest

from bench.peers.ours import load
from handler.inference.config import ModelConfig
from lifecycle.checkpoint import read_json, write_json
from tests.models import config_json, random_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    write_json(tmp_path / "config.json", config_json())
    config = ModelConfig.from_json(read_json(tmp_path / "config.json"))
    (tmp_path / "model.safetensors").write_bytes(random_checkpoint(config, scale=0.3))
    return tmp_path


def test_writes_greedily_what_it_writes_alone(checkpoint: Path) -> None:
    generate = load(checkpoint, "reference")
    first, second = generate([[1, 2, 3], [4, 5, 6]], 5)
    assert generate([[1, 2, 3]], 5) == [first]
    # As does a model that reads everything again for each token.
    assert [generate([[4, 5, 6, *second[:done]]], 1)[0][0] for done in range(5)] == second
