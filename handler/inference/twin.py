"""Continuous batching and our scheduler beside each other, over one copy of a model's weights."""

from collections.abc import Mapping
from copy import deepcopy
from itertools import chain
from typing import Any

from transformers import PreTrainedModel

from handler.inference.causal import CausalEngine
from handler.inference.causal_model import find_device, load_model, read_config
from handler.inference.continuous import ContinuousBackend
from handler.inference.paging import ATTENTION
from handler.inference.routing import Routing
from handler.inference.scheduler import Scheduler
from handler.inference.slotted_attention import ATTENTION as SLOTTED
from handler.inference.weights import Tensor


def continuous_backend(
    document: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    device: str,
    kv_cache_bytes: int,
    context_limit: int | None = None,
    threads: int = 0,
    narrow: bool = False,
) -> Routing:
    """The backend for a model's files; the arguments are those of `causal_engine`, the cache is shared out in halves.

    Raises:
        CorruptModelError: a value of the configuration or a tensor is not as it should be.
        UnsupportedModelError: something about the model is not implemented, there is no such device, or half of the
            cache does not hold one sequence.
    """
    model = load_model(read_config(document), tensors, device=find_device(device), attention=SLOTTED, narrow=narrow)
    half = kv_cache_bytes // 2
    exact = CausalEngine(model, kv_cache_bytes=half, context_limit=context_limit, threads=threads)
    processor = exact.name.partition("-")[2]
    fast = ContinuousBackend(
        twin_of(model, ATTENTION),
        name=f"continuous-{processor}",
        context_length=exact.context_length,
        cache_bytes=half,
    )
    return Routing(fast, Scheduler(exact))


def twin_of(model: PreTrainedModel, attention: str) -> PreTrainedModel:
    """The same model with another attention: the modules are copies, the weights are not."""
    tensors = chain(model.parameters(), model.buffers())
    twin = deepcopy(model, {id(tensor): tensor for tensor in tensors})
    twin.set_attn_implementation(attention)
    return twin
