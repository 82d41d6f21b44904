"""Checkpoints of other architectures than GPT-2: transformers puts them together, as it will when they are served.

What such a checkpoint is good for is found out by doing it: the model is made of its files and reads a token, so that
what can be published can be served. Only a GPT-2 can be packed, and only a GPT-2 is trained from scratch here.
"""

from collections.abc import Mapping
from typing import Any, Final

from handler.errors import UnsupportedModelError
from handler.inference.weights import Tensor
from handler.registry.manifest import Architecture

# More than the keys and values of a token take, of whatever model.
_ROOM: Final = 10**9


def is_gpt2(document: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a GPT-2."""
    return document.get("model_type") == "gpt2"


def check_config(document: Mapping[str, Any]) -> None:
    """See that a `config.json` is that of a causal model that can be served.

    Raises:
        CorruptModelError: a value is of the wrong type or out of its bounds.
        UnsupportedModelError: it is of none; the message says why.
    """
    from handler.inference.causal_model import read_config  # noqa: PLC0415 - see below

    read_config(document)


def check_causal(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], layout: str | None
) -> tuple[Architecture, str]:
    """What a `config.json` and these tensors make, and the dtype that most of the weights have.

    Raises:
        CorruptModelError: a value of the configuration does not fit the rest, or a tensor is missing.
        UnsupportedModelError: the architecture is none that can be served; the message says why.
    """
    if layout is not None:
        raise UnsupportedModelError(f"layout {layout}: only the weights of a GPT-2 can be packed")
    # Imported here because torch and transformers take seconds, and a GPT-2 needs neither.
    import torch  # noqa: PLC0415

    from handler.inference.causal import CausalEngine  # noqa: PLC0415
    from handler.inference.causal_model import load_model, read_config  # noqa: PLC0415
    from handler.inference.slotted_attention import ATTENTION  # noqa: PLC0415

    config = read_config(document)
    model = load_model(config, tensors, device="cpu", attention=ATTENTION, widen=False)
    # With as many threads as there are: whoever trains with fewer wants the same bits again.
    engine = CausalEngine(model, kv_cache_bytes=_ROOM, context_limit=1, threads=torch.get_num_threads())
    architecture = Architecture(
        model_type=config.model_type,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        width=config.hidden_size,
        context_length=config.max_position_embeddings,
        vocabulary_size=engine.vocabulary_size,
        parameters=model.num_parameters(),
    )
    return architecture, max(tensors.values(), key=lambda tensor: len(tensor.data)).dtype
