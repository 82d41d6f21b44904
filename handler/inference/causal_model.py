"""Any causal language model that transformers knows, put together from a version's own files.

Nothing is fetched and no code of a model is run: the configuration must name an architecture of transformers, and the
weights are tensors that were read already. Whatever the slotted attention (see slotted_attention.py) cannot do right is
refused by name here, or when the engine reads its first token.
"""

import copy
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference.tensors import as_torch
from handler.inference.weights import Tensor

# Rotary positions whose frequencies depend on the length of the text: in a batch, one sequence would change another.
_ROPE_BY_LENGTH: Final = {"dynamic", "longrope"}
_LAYERS: Final = {"full_attention", "sliding_attention"}

# What the engine gives a model: a row of several sequences' tokens, each with its place, and which logits it wants.
_ARGUMENTS: Final = {"position_ids", "logits_to_keep"}

# Its bars and reports would go between the lines of the log; what they say is raised here.
logging.disable_progress_bar()  # type: ignore[no-untyped-call]
logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def read_config(document: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration in a `config.json`.

    Raises:
        UnsupportedModelError: it is not of a causal model that can be served; the message says why.
        CorruptModelError: a value is of the wrong type or out of its bounds.
    """
    for key in ("auto_map", "quantization_config"):
        if document.get(key):
            raise UnsupportedModelError(f"config.json: {key} is not implemented, given {document[key]!r:.100}")
    model_type = document.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise UnsupportedModelError(
            f"config.json: model_type must be one that transformers knows, given {model_type!r}"
        )
    try:
        config = CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(document)))  # it writes into what it is given
    except Exception as error:  # the library raises nothing more exact
        raise CorruptModelError(f"config.json: {error}") from error
    _refuse_unsuited(config)
    return config


def load_model(
    config: PreTrainedConfig,
    tensors: Mapping[str, Tensor],
    *,
    device: str,
    attention: str,
    widen: bool = True,
    narrow: bool = False,
) -> PreTrainedModel:
    """The model with its weights: on a GPU in the type they have, on a CPU in 32 bits, there without a copy of those.

    Args:
        config: from `read_config`; it is not changed.
        tensors: the weights by their names in the checkpoint; the bytes they are views of must not change any more.
        device: "cpu" or "cuda".
        attention: the name of one of transformers' attention functions.
        widen: whether weights of 16 bits are widened on a CPU, which computes many times faster with 32.
        narrow: whether weights are narrowed to 16 bits on a GPU, which reads them twice as fast: for those that had
            fewer before they were unpacked.

    Raises:
        CorruptModelError: a tensor is missing or does not have the shape the architecture gives it.
        UnsupportedModelError: a tensor is of a type or name that is not implemented.
    """
    weights = {name: as_torch(name, tensor) for name, tensor in tensors.items()}
    if not weights:
        raise CorruptModelError("the weights hold no tensor")
    if device == "cpu":
        dtype = torch.float32 if widen else _most(weights.values())
    else:
        dtype = _narrow_type() if narrow else _most(weights.values())
    try:
        model, found = _architecture(config).from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=dtype,
            attn_implementation=attention,
            ignore_mismatched_sizes=True,  # they are in what was found
            output_loading_info=True,
        )
    except Exception as error:  # whatever a model's own code raises where its sizes do not fit each other
        raise UnsupportedModelError(
            f"transformers cannot make a {config.model_type!r} of config.json: {error}"
        ) from error
    for name, given, expected in sorted(found["mismatched_keys"]):
        raise CorruptModelError(f"tensor {name!r} must have the shape {list(expected)}, given {list(given)}")
    for name in sorted(found["missing_keys"]):
        raise CorruptModelError(f"tensor {name!r} is missing")
    for name in sorted(found["unexpected_keys"]):
        raise UnsupportedModelError(f"tensor {name!r} is no part of {type(model).__name__}")
    loaded: PreTrainedModel = model.to(device)
    return loaded


def _most(weights: Iterable[torch.Tensor]) -> torch.dtype:
    """The type of the largest."""
    return max(weights, key=torch.numel).dtype


def _narrow_type() -> torch.dtype:
    """A type of 16 bits that the GPU computes with: the one in which nothing overflows, where it has it."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _architecture(config: PreTrainedConfig) -> Any:
    """The class of the models of a configuration."""
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def find_device(wanted: str) -> str:
    """The device to run on, "cpu" or "cuda"; "auto" takes a GPU where torch sees one.

    Raises:
        UnsupportedModelError: a GPU is asked for, and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UnsupportedModelError("DEVICE=cuda needs a GPU and a build of torch that can use it; torch sees none")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _refuse_unsuited(config: PreTrainedConfig) -> None:
    """Raise if the model is none that continues a text, or the slotted attention cannot serve it."""
    kind = config.model_type
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModelError(f"config.json: model_type {kind!r} is not that of a causal language model")
    model = _architecture(config)
    takes = inspect.signature(model.forward).parameters.keys()
    if not model._supports_attention_backend or not takes >= _ARGUMENTS:
        raise UnsupportedModelError(f"config.json: transformers' {model.__name__} cannot be given another attention")
    if not isinstance(getattr(config, "max_position_embeddings", None), int):
        raise UnsupportedModelError(f"config.json: max_position_embeddings is needed, and {kind!r} has none")
    if other := set(getattr(config, "layer_types", None) or ()) - _LAYERS:
        raise UnsupportedModelError(
            f"config.json: layer_types may hold {', '.join(sorted(_LAYERS))}, given {min(other)!r}"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    for parameters in (rope, *rope.values()):  # of all layers, or of each type of layer
        if isinstance(parameters, dict) and parameters.get("rope_type") in _ROPE_BY_LENGTH:
            raise UnsupportedModelError(f"config.json: rope_type {parameters['rope_type']!r} is not implemented")
