"""Importing from a folder: every dress GPT-2 comes in, and everything that is refused by name."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file
from tokenizers import Tokenizer as Library
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from handler.errors import CorruptModelError, InvalidRequestError
from handler.registry.manifest import Architecture
from lifecycle.checkpoint import Provenance, read_checkpoint, write_json
from lifecycle.importing import import_model
from tests.checkpoints import Arrays, old_style, random_tensors
from tests.models import config_json, tokenizer_json


def assert_holds(out: Path, tensors: Arrays) -> None:
    """The weights in a checkpoint folder are these, bit for bit, and no others."""
    found = load_file(out / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_the_form_of_openais_own_checkpoint(source: Path, out: Path) -> None:
    tensors = old_style(source)
    checkpoint = import_model(str(source), out)

    assert_holds(out, tensors)
    assert checkpoint == read_checkpoint(out)
    assert checkpoint.folder == out
    assert checkpoint.files == ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    assert checkpoint.dtype == "F32"
    assert checkpoint.provenance == Provenance("Tiny-GPT", None, None, {}, {})
    assert checkpoint.architecture == Architecture(
        model_type="gpt2",
        layers=2,
        heads=4,
        width=32,
        context_length=64,
        vocabulary_size=300,
        parameters=sum(tensor.size for tensor in tensors.values()),
    )
    assert sorted(path.name for path in out.iterdir()) == sorted([*checkpoint.files, "provenance.json"])
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # nothing half-made beside it


def test_the_same_checkpoint_always_becomes_the_same_bytes(source: Path, out: Path) -> None:
    old_style(source)
    import_model(str(source), out)
    again = import_model(str(source), out.with_name("again")).folder
    for path in out.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


@pytest.mark.parametrize("changes", [{}, {"n_inner": 48, "activation_function": "gelu", "layer_norm_epsilon": 1e-3}])
@pytest.mark.parametrize("kind", [GPT2LMHeadModel, GPT2Model])
def test_what_transformers_saves_computes_the_same_afterwards(
    source: Path, out: Path, kind: type[GPT2LMHeadModel] | type[GPT2Model], changes: dict[str, Any]
) -> None:
    """GPT2LMHeadModel saves `transformer.h.0...`, GPT2Model `h.0...`."""
    ids = {"bos_token_id": 299, "eos_token_id": 299}
    torch.manual_seed(0)
    original = kind(GPT2Config(**config_json(**changes) | ids)).train(mode=False)
    original.save_pretrained(source)
    (source / "tokenizer.json").write_bytes(tokenizer_json(300))

    import_model(str(source), out)

    imported = kind.from_pretrained(out)
    tokens = torch.arange(60)[None]
    with torch.no_grad():
        assert torch.equal(imported(tokens)[0], original(tokens)[0])
    config = json.loads((out / "config.json").read_text())
    assert {key: config[key] for key in changes} == changes


def test_shards_are_put_together(source: Path, out: Path) -> None:
    tensors = old_style(source)
    (source / "model.safetensors").unlink()
    names = list(tensors)
    for number, part in enumerate([names[:5], names[5:]], start=1):
        save_file({name: tensors[name] for name in part}, source / f"model-{number:05}-of-00002.safetensors")
    import_model(str(source), out)
    assert_holds(out, tensors)

    (source / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CorruptModelError, match=r"model\.safetensors: \d+ tensors are missing, among them h\."):
        import_model(str(source), out.with_name("again"))


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_half_precision_is_kept(source: Path, out: Path, dtype: torch.dtype, name: str) -> None:
    tensors = {key: torch.from_numpy(value).to(dtype) for key, value in old_style(source).items()}
    save_torch_file(tensors, source / "model.safetensors")
    checkpoint = import_model(str(source), out)
    assert checkpoint.dtype == name
    assert json.loads((out / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_a_head_that_is_the_embedding_is_dropped(source: Path, out: Path) -> None:
    tensors = random_tensors(config_json())
    old_style(source, tensors | {"lm_head.weight": tensors["wte.weight"]})
    import_model(str(source), out)
    assert_holds(out, tensors)


def test_rows_of_padding_are_trimmed(source: Path, out: Path) -> None:
    tensors = old_style(source, vocab_size=320)
    checkpoint = import_model(str(source), out)
    assert checkpoint.architecture.vocabulary_size == 300
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 300
    assert_holds(out, tensors | {"wte.weight": tensors["wte.weight"][:300]})


def test_the_context_length_may_still_be_called_n_ctx(source: Path, out: Path) -> None:
    old_style(source)
    config = json.loads((source / "config.json").read_text())
    del config["n_positions"]
    (source / "config.json").write_text(json.dumps(config))
    assert import_model(str(source), out).architecture.context_length == 64


def test_special_tokens_that_are_none_become_the_end_of_text(source: Path, out: Path) -> None:
    old_style(source)  # which says 50256 of 300 tokens, as transformers does for a model of any size
    import_model(str(source), out)
    ids = {"bos_token_id": 299, "eos_token_id": 299}
    assert json.loads((out / "generation_config.json").read_text()) == ids
    assert json.loads((out / "config.json").read_text()).items() >= ids.items()


def test_the_generation_defaults_are_kept(source: Path, out: Path) -> None:
    old_style(source)
    given = {"bos_token_id": 1, "eos_token_id": [299, 7], "temperature": 0.7}
    (source / "generation_config.json").write_text(json.dumps(given))
    import_model(str(source), out)
    assert json.loads((out / "generation_config.json").read_text()) == given


def test_a_tokenizer_in_two_files_becomes_one(source: Path, out: Path) -> None:
    old_style(source)
    library = Library.from_str(tokenizer_json(300).decode())
    library.model.save(str(source))
    (source / "tokenizer.json").unlink()
    import_model(str(source), out)
    made = Library.from_file(str(out / "tokenizer.json"))
    text = "She said that the sea was the sea.<|endoftext|> “Well — naïve café!” 日本語 🙂"
    assert made.encode(text).ids == library.encode(text).ids


@pytest.mark.parametrize(
    ("path", "content"),
    [("chat_template.jinja", "{{ messages }}"), ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}')],
)
def test_a_chat_template_comes_along(source: Path, out: Path, path: str, content: str) -> None:
    old_style(source)
    (source / path).write_text(content)
    assert "chat_template.jinja" in import_model(str(source), out).files
    assert (out / "chat_template.jinja").read_text() == "{{ messages }}"


def test_what_lies_in_the_way_is_not_overwritten(source: Path, out: Path) -> None:
    old_style(source)
    out.mkdir(parents=True)
    import_model(str(source), out)  # an empty folder is not in the way
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InvalidRequestError, match="exists and is not an empty folder") as refused:
        import_model(str(source), out)
    assert refused.value.param == "out"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_the_folder_says_of_its_weights_is_kept(tmp_path: Path) -> None:
    old_style(tmp_path / "trained")
    said = Provenance("trained on emma", "mit", "v0", {"emma": 7.5}, {"steps": 9}, {"texts": []}, "by hand")
    write_json(tmp_path / "trained" / "provenance.json", asdict(said))
    assert import_model(str(tmp_path / "trained"), tmp_path / "out").provenance == said

    write_json(tmp_path / "trained" / "provenance.json", {"source": 7})
    with pytest.raises(CorruptModelError, match=r"provenance\.json: source is missing or of the wrong type: 7"):
        import_model(str(tmp_path / "trained"), tmp_path / "again")
