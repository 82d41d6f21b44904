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

from handler.errors import CorruptModelError, InvalidRequestError, ServiceError, UnsupportedModelError
from handler.registry.manifest import Architecture
from lifecycle.checkpoint import Provenance, read_checkpoint, write_json
from lifecycle.importing import import_model
from tests.checkpoints import Arrays, old_style, random_tensors
from tests.models import config_json, tokenizer_json


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "Tiny-GPT"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deeper" / "out"


def assert_holds(out: Path, tensors: Arrays) -> None:
    """The weights in a checkpoint folder are these, bit for bit, and no others."""
    found = load_file(out / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be False, given True"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn must be False, given True"),
        ({"scale_attn_weights": False}, "scale_attn_weights must be True, given False"),
        ({"add_cross_attention": True}, "add_cross_attention must be False, given True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings must be True, given False"),
        ({"activation_function": "relu"}, "activation_function must be one of .*, given 'relu'"),
        ({"model_type": "llama"}, "model_type must be 'gpt2', given 'llama'"),
        ({"model_type": None}, "model_type must be 'gpt2', given None"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(
    source: Path, out: Path, changes: dict[str, Any], message: str
) -> None:
    old_style(source)
    edit(source / "config.json", **changes)
    assert_refused(source, out, UnsupportedModelError, message)


def assert_refused(source: Path, out: Path, error: type[ServiceError], message: str) -> None:
    """The import fails with this error and leaves nothing behind."""
    with pytest.raises(error, match=message):
        import_model(str(source), out)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_an_untied_head_is_refused(source: Path, out: Path) -> None:
    tensors = random_tensors(config_json())
    old_style(source, tensors | {"lm_head.weight": tensors["wte.weight"] + 1})
    assert_refused(source, out, UnsupportedModelError, r"lm_head\.weight differs from wte\.weight: an untied head")


def test_another_task_s_head_is_refused(source: Path, out: Path) -> None:
    tensors = random_tensors(config_json())
    old_style(source, tensors | {"score.weight": np.zeros((2, 32), np.float32)})
    assert_refused(source, out, UnsupportedModelError, r"1 tensors are no part of a GPT-2, among them score\.weight")


def test_a_missing_tensor_is_named(source: Path, out: Path) -> None:
    tensors = random_tensors(config_json())
    del tensors["h.1.mlp.c_fc.bias"]
    old_style(source, tensors)
    assert_refused(source, out, CorruptModelError, r"1 tensors are missing, among them h\.1\.mlp\.c_fc\.bias")


def test_a_tensor_of_another_shape_is_named(source: Path, out: Path) -> None:
    tensors = random_tensors(config_json())
    tensors["h.0.attn.c_attn.weight"] = tensors["h.0.attn.c_attn.weight"].T.copy()  # as a Linear layer has it
    old_style(source, tensors)
    message = r"h\.0\.attn\.c_attn\.weight has the shape \(96, 32\), config\.json asks for \(32, 96\)"
    assert_refused(source, out, CorruptModelError, message)


def test_other_types_are_refused(source: Path, out: Path) -> None:
    old_style(source, {name: tensor.astype(np.float64) for name, tensor in random_tensors(config_json()).items()})
    message = r"wte\.weight is of type F64, which is none of F32, F16, BF16"
    assert_refused(source, out, UnsupportedModelError, message)


def test_mixed_types_are_refused(source: Path, out: Path) -> None:
    tensors = random_tensors(config_json())
    old_style(source, tensors | {"ln_f.bias": tensors["ln_f.bias"].astype(np.float16)})
    assert_refused(source, out, UnsupportedModelError, r"ln_f\.bias is F16 and wte\.weight F32: mixed types")


def test_a_name_given_twice_is_refused(source: Path, out: Path) -> None:
    tensors = random_tensors(config_json())
    old_style(source, tensors | {"transformer.ln_f.bias": tensors["ln_f.bias"]})
    assert_refused(source, out, CorruptModelError, r"ln_f\.bias is given twice")


def test_without_safetensors_there_is_advice(source: Path, out: Path) -> None:
    old_style(source)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    assert_refused(
        source, out, UnsupportedModelError, r"has no safetensors\. Convert it once .*save_pretrained\(FOLDER\)"
    )


@pytest.mark.parametrize("rows", [299, 300 + 128])
def test_a_tokenizer_that_does_not_fit_is_refused(source: Path, out: Path, rows: int) -> None:
    old_style(source, vocab_size=rows)
    message = rf"the tokenizer has 300 tokens and wte\.weight {rows} rows"
    assert_refused(source, out, CorruptModelError, message)


def test_a_missing_tokenizer_is_told(source: Path, out: Path) -> None:
    old_style(source)
    (source / "tokenizer.json").unlink()
    assert_refused(source, out, CorruptModelError, r"has neither tokenizer\.json nor vocab\.json")


def test_a_tokenizer_of_another_kind_is_refused(source: Path, out: Path) -> None:
    old_style(source)
    edit(source / "tokenizer.json", decoder={"type": "Fuse"})
    assert_refused(source, out, UnsupportedModelError, r"tokenizer\.json: the decoder must be ByteLevel")


def test_several_chat_templates_are_refused(source: Path, out: Path) -> None:
    old_style(source)
    (source / "tokenizer_config.json").write_text('{"chat_template": [{"name": "default", "template": ""}]}')
    assert_refused(source, out, UnsupportedModelError, r"tokenizer_config\.json: chat_template must be one template")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("tokenizer.json", b"{}"),
        ("generation_config.json", b"\xff"),
        ("model.safetensors", b""),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}"),
        ("model.safetensors", b"\0" * 100),
    ],
)
def test_a_damaged_file_is_named(source: Path, out: Path, path: str, content: bytes) -> None:
    old_style(source)
    (source / path).write_bytes(content)
    assert_refused(source, out, CorruptModelError, path.replace(".", r"\."))


def test_a_source_that_is_no_checkpoint_is_refused(tmp_path: Path, out: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"is not a folder with a config\.json"):
        import_model(str(tmp_path), out)
    with pytest.raises(InvalidRequestError, match=r"is not a folder with a config\.json"):
        import_model("./nowhere", out)


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
