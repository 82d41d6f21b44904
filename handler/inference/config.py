"""What a GPT-2 model looks like: read from its `config.json`, refused by name where something is not implemented.

The importer refuses a checkpoint through `ModelConfig.from_json`, and so does every engine: there is one opinion on
what can be served. Keys and defaults are those of transformers' `GPT2Config`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from handler.errors import CorruptModelError, UnsupportedModelError

Activation = Literal["gelu", "gelu_tanh"]

# By their names in transformers; gelu_new is the tanh approximation GPT-2 was trained with.
ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}

# Switches of transformers' GPT-2 and the only value of each that is implemented, which is also its default.
FIXED: Final[Mapping[str, bool]] = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The architecture of a GPT-2 model.

    Attributes:
        layers: transformer blocks.
        heads: attention heads per block.
        width: size of the residual stream (C).
        inner_width: size of the hidden layer of each feed-forward network (I).
        context_length: positions, and so the most tokens of prompt and output together.
        vocabulary_size: token embeddings (V).
        layer_norm_epsilon: added to the variance in layer normalization.
        activation: Gaussian error linear unit, exact or by its tanh approximation.
    """

    layers: int
    heads: int
    width: int
    inner_width: int
    context_length: int
    vocabulary_size: int
    layer_norm_epsilon: float
    activation: Activation

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Read the object in a `config.json`.

        Raises:
            UnsupportedModelError: it asks for something that is not implemented; the message names it.
            CorruptModelError: a value is of the wrong type or out of its bounds.
        """
        if config.get("model_type") != "gpt2":
            raise UnsupportedModelError(f"config.json: model_type must be 'gpt2', given {config.get('model_type')!r}")
        for key, only in FIXED.items():
            if config.get(key, only) is not only:
                raise UnsupportedModelError(f"config.json: {key} must be {only}, given {config[key]!r}")
        if config.get("quantization_config") is not None:
            raise UnsupportedModelError("config.json: quantization_config is not implemented")
        activation = config.get("activation_function", "gelu_new")
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"config.json: activation_function must be one of {', '.join(ACTIVATIONS)}, given {activation!r}"
            )
        width, heads = _size(config, "n_embd", 768), _size(config, "n_head", 12)
        if width % heads:
            raise CorruptModelError(f"config.json: n_embd must be a multiple of n_head, given {width} and {heads}")
        return cls(
            layers=_size(config, "n_layer", 12),
            heads=heads,
            width=width,
            inner_width=4 * width if config.get("n_inner") is None else _size(config, "n_inner", 4 * width),
            context_length=_size(config, "n_positions", 1024),
            vocabulary_size=_size(config, "vocab_size", 50257),
            layer_norm_epsilon=_epsilon(config),
            activation=ACTIVATIONS[activation],
        )

    @property
    def head_size(self) -> int:
        """The size of each head's queries, keys and values."""
        return self.width // self.heads

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the model by its canonical name, that of openai-community/gpt2, with its shape.

        Linear layers are stored (in, out), as GPT-2's `Conv1D` has them. There is no `lm_head`: it is `wte` again.
        """
        shapes: dict[str, tuple[int, ...]] = {
            "wte.weight": (self.vocabulary_size, self.width),
            "wpe.weight": (self.context_length, self.width),
        }
        for layer in range(self.layers):
            for name, inputs, outputs in (
                ("attn.c_attn", self.width, 3 * self.width),
                ("attn.c_proj", self.width, self.width),
                ("mlp.c_fc", self.width, self.inner_width),
                ("mlp.c_proj", self.inner_width, self.width),
            ):
                shapes[f"h.{layer}.{name}.weight"] = (inputs, outputs)
                shapes[f"h.{layer}.{name}.bias"] = (outputs,)
        for norm in [f"h.{layer}.ln_{number}" for layer in range(self.layers) for number in (1, 2)] + ["ln_f"]:
            shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (self.width,)
        return shapes


def _size(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key, default)
    if type(value) is not int or value < 1:
        raise CorruptModelError(f"config.json: {key} must be an integer of at least 1, given {value!r:.100}")
    return value


def _epsilon(config: Mapping[str, Any]) -> float:
    value = config.get("layer_norm_epsilon", 1e-5)
    if type(value) not in {int, float} or not 0 < value < 1:
        raise CorruptModelError(f"config.json: layer_norm_epsilon must lie between 0 and 1, given {value!r:.100}")
    return float(value)
