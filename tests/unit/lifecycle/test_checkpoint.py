"""Checkpoint folders: what publishing refuses, whoever made them."""

import json
from pathlib import Path
from typing import Any

import pytest

from handler.errors import CorruptModelError
from lifecycle.checkpoint import Provenance, read_checkpoint
from tests.checkpoints import checkpoint
from tests.models import tokenizer_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "checkpoint").folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_provenance_is_read(folder: Path) -> None:
    given: dict[str, Any] = {"source": "here", "license": "mit", "derived_from": "v1"}
    given |= {"evaluation": {"a": 1}, "training": {"b": 2}}
    given |= {"data": {"texts": []}, "code": "gpt2-serverless 0.1.0"}
    (folder / "provenance.json").write_text(json.dumps(given))
    assert read_checkpoint(folder).provenance == Provenance(**given)
    (folder / "provenance.json").write_text('{"source": "here"}')
    assert read_checkpoint(folder).provenance == Provenance("here", None, None, {}, {}, {}, code=None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"source": None}, "source"),
        ({"license": 1}, "license"),
        ({"derived_from": []}, "derived_from"),
        ({"evaluation": 1}, "evaluation"),
        ({"training": None}, "training"),
    ],
)
def test_provenance_of_another_form_is_refused(folder: Path, changes: dict[str, Any], field: str) -> None:
    edit(folder / "provenance.json", **changes)
    with pytest.raises(CorruptModelError, match=rf"provenance\.json: {field} is missing or of the wrong type"):
        read_checkpoint(folder)


@pytest.mark.parametrize("path", ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, path: str) -> None:
    (folder / path).unlink()
    with pytest.raises(CorruptModelError, match=f"{path} is missing".replace(".", r"\.")):
        read_checkpoint(folder)


@pytest.mark.parametrize("path", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("value", [300, -1, "299", [299, 300], True])
def test_special_tokens_must_be_tokens(folder: Path, path: str, value: object) -> None:
    edit(folder / path, eos_token_id=value)
    with pytest.raises(CorruptModelError, match="eos_token_id must be a token between 0 and 299"):
        read_checkpoint(folder)


def test_there_are_as_many_tokens_as_rows(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(tokenizer_json(299))
    with pytest.raises(CorruptModelError, match=r"tokenizer\.json has 299 tokens, the model 300"):
        read_checkpoint(folder)


def test_what_else_lies_there_is_not_looked_at(folder: Path) -> None:
    before = read_checkpoint(folder)
    (folder / "run").mkdir()
    (folder / "notes.txt").write_text("hello")
    assert read_checkpoint(folder) == before
