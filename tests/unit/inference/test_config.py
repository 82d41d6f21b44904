"""What is read from a `config.json`, and what is refused by name."""

from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference.config import ModelConfig
from tests.models import config_json

# The `config.json` of openai-community/gpt2, with the keys that other versions of transformers left there.
GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}

SMALL = ModelConfig(
    layers=12,
    heads=12,
    width=768,
    inner_width=3072,
    context_length=1024,
    vocabulary_size=50257,
    layer_norm_epsilon=1e-5,
    activation="gelu_tanh",
)


def test_reads_gpt2() -> None:
    assert ModelConfig.from_json(GPT2) == SMALL
    assert SMALL.head_size == 64


def test_defaults_are_those_of_transformers() -> None:
    assert ModelConfig.from_json({"model_type": "gpt2"}) == SMALL
    assert ModelConfig.from_json(GPT2Config().to_dict()) == SMALL


def test_tensors_are_those_of_transformers() -> None:
    config = config_json(n_inner=40)
    model = GPT2LMHeadModel(GPT2Config(**config, bos_token_id=0, eos_token_id=0))
    assert ModelConfig.from_json(config).tensor_shapes() == {
        name: tuple(tensor.shape) for name, tensor in model.transformer.state_dict().items()
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "config.json: model_type must be 'gpt2', given 'llama'"),
        ({"model_type": None}, "config.json: model_type must be 'gpt2', given None"),
        ({"activation_function": "silu"}, "activation_function must be one of gelu, gelu_new, gelu_pytorch_tanh"),
        ({"activation_function": ["gelu"]}, "given ['gelu']"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be False, given True"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn must be False, given True"),
        ({"scale_attn_weights": False}, "scale_attn_weights must be True, given False"),
        ({"add_cross_attention": True}, "add_cross_attention must be False, given True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings must be True, given False"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        ModelConfig.from_json(config_json(**changes))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layer": 0}, "n_layer must be an integer of at least 1, given 0"),
        ({"n_layer": "12"}, "n_layer must be an integer of at least 1, given '12'"),
        ({"n_positions": True}, "n_positions must be an integer of at least 1, given True"),
        ({"n_inner": -1}, "n_inner must be an integer of at least 1, given -1"),
        ({"vocab_size": 1.5}, "vocab_size must be an integer of at least 1, given 1.5"),
        ({"n_embd": 30}, "n_embd must be a multiple of n_head, given 30 and 4"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon must lie between 0 and 1, given 0"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon must lie between 0 and 1, given nan"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon must lie between 0 and 1, given '1e-5'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptModelError) as caught:
        ModelConfig.from_json(config_json(**changes))
    assert message in caught.value.message
