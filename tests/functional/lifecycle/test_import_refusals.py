"""What cannot be imported, and how that is said: the part at fault by its name, and nothing left behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handler.errors import CorruptModelError, InvalidRequestError, ServiceError, UnsupportedModelError
from lifecycle.importing import import_model
from tests.checkpoints import edit, old_style, random_tensors
from tests.models import config_json


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be False, given True"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn must be False, given True"),
        ({"scale_attn_weights": False}, "scale_attn_weights must be True, given False"),
        ({"add_cross_attention": True}, "add_cross_attention must be False, given True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings must be True, given False"),
        ({"activation_function": "relu"}, "activation_function must be one of .*, given 'relu'"),
        ({"model_type": "lama"}, "model_type must be one that transformers knows, given 'lama'"),
        ({"model_type": None}, "model_type must be one that transformers knows, given None"),
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
