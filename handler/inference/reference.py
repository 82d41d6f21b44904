"""The reference engine: GPT-2 in plain torch, the one every other engine is held against.

A ragged batch is one long row of tokens: everything but attention runs once over all of them, and attention runs per
sequence over that sequence's place in the key-value cache. So a whole prompt, a piece of one and a single token to
decode are the same computation. Shapes are noted at line ends: T tokens of all sequences together, t of one sequence,
L tokens in a sequence's cache, C width, I inner width, H heads, D head size, V vocabulary.

The model: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; its tensors are named and laid
out as in https://huggingface.co/openai-community/gpt2.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference.config import Activation, ModelConfig
from handler.inference.protocol import FloatArray
from handler.inference.slots import SlottedEngine, Span
from handler.inference.tensors import as_torch
from handler.inference.threads import available_processors
from handler.inference.weights import Tensor

ACTIVATIONS: Final[Mapping[Activation, Callable[[torch.Tensor], torch.Tensor]]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


class Linear:
    """A linear layer, its weight stored (in, out)."""

    def __init__(self, weights: Mapping[str, torch.Tensor], name: str) -> None:
        self.weight, self.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(T, in) -> (T, out)."""
        return torch.addmm(self.bias, x, self.weight)


class LayerNorm:
    """Layer normalization over the width."""

    def __init__(self, weights: Mapping[str, torch.Tensor], name: str, epsilon: float) -> None:
        self.weight, self.bias, self.epsilon = weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(T, C) -> (T, C)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class Block:
    """One transformer block: attention, then a feed-forward network, each added to the residual stream."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, torch.Tensor], layer: int, cache: torch.Tensor):
        self.heads, self.head_size = config.heads, config.head_size
        self.keys, self.values = cache  # (slots, H, context, D) each
        self.activation = ACTIVATIONS[config.activation]
        self.ln_1 = LayerNorm(weights, f"h.{layer}.ln_1", config.layer_norm_epsilon)
        self.attention_in = Linear(weights, f"h.{layer}.attn.c_attn")
        self.attention_out = Linear(weights, f"h.{layer}.attn.c_proj")
        self.ln_2 = LayerNorm(weights, f"h.{layer}.ln_2", config.layer_norm_epsilon)
        self.feed_forward_in = Linear(weights, f"h.{layer}.mlp.c_fc")
        self.feed_forward_out = Linear(weights, f"h.{layer}.mlp.c_proj")

    def __call__(self, x: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
        """(T, C) -> (T, C), with the keys and values of the tokens appended to the cache."""
        x = x + self.attention_out(self.attend(self.attention_in(self.ln_1(x)), spans))  # (T, C)
        hidden = self.activation(self.feed_forward_in(self.ln_2(x)))  # (T, I)
        return x + self.feed_forward_out(hidden)  # (T, C)

    def attend(self, qkv: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
        """Append keys and values to the cache and let each sequence's queries look at all of its own."""
        queries, keys, values = qkv.view(-1, 3, self.heads, self.head_size).permute(1, 2, 0, 3)  # (H, T, D) each
        mixed = torch.empty(qkv.shape[0], self.heads, self.head_size)  # (T, H, D)
        for span in spans:
            rows, places = slice(span.start, span.stop), slice(span.past, span.length)
            self.keys[span.slot, :, places] = keys[:, rows]  # (H, t, D)
            self.values[span.slot, :, places] = values[:, rows]
            attended = F.scaled_dot_product_attention(
                queries[None, :, rows],  # (1, H, t, D)
                self.keys[span.slot, None, :, : span.length],  # (1, H, L, D)
                self.values[span.slot, None, :, : span.length],
                attn_mask=_mask(span),
                is_causal=span.past == 0 and span.length > 1,
            )
            mixed[rows] = attended[0].transpose(0, 1)
        return mixed.view(qkv.shape[0], -1)  # (T, C)


class ReferenceEngine(SlottedEngine):
    """GPT-2 on the CPU in 32-bit floating point, a `StepEngine`."""

    # torch adds up in another order for another number of rows.
    batch_invariant = False

    def __init__(
        self, config: ModelConfig, tensors: Mapping[str, Tensor], *, kv_cache_bytes: int, threads: int = 0
    ) -> None:
        """Put the model together from its tensors, without copying those in 32 bits.

        Args:
            config: the architecture.
            tensors: the weights by their canonical names; the bytes they are views of must not change any more.
            kv_cache_bytes: room for keys and values; the slots are as many sequences as fit.
            threads: threads torch may use, 0 for as many as there are processors. torch keeps one number for all
                engines of the process.

        Raises:
            CorruptModelError: a tensor is missing or does not have the shape the architecture gives it.
            UnsupportedModelError: a tensor is of a type or name that is not implemented, or not one sequence fits.
        """
        torch.set_num_threads(threads or available_processors())
        self.name = f"reference-{torch.backends.cpu.get_cpu_capability().lower()}"
        weights = load_weights(config, tensors)
        slot_bytes = config.layers * 2 * config.context_length * config.width * 4
        super().__init__(
            context_length=config.context_length,
            vocabulary_size=config.vocabulary_size,
            slot_bytes=slot_bytes,
            kv_cache_bytes=kv_cache_bytes,
        )
        # Not touched before it is used: memory is taken only by as many tokens as sequences really have.
        self._cache = torch.empty(
            config.layers, 2, self._slots.count, config.heads, config.context_length, config.head_size
        )
        self._token_embeddings = weights["wte.weight"]  # (V, C)
        self._position_embeddings = weights["wpe.weight"]  # (context, C)
        self._blocks = [Block(config, weights, layer, self._cache[layer]) for layer in range(config.layers)]
        self._ln_f = LayerNorm(weights, "ln_f", config.layer_norm_epsilon)

    def _copy(self, slot: int, copy: int, length: int) -> None:
        """Copy the keys and values of a slot's first `length` tokens."""
        self._cache[:, :, copy, :, :length] = self._cache[:, :, slot, :, :length]

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[int], spans: Sequence[Span], rows: Sequence[int]) -> FloatArray:
        """The logits after the tokens whose indices are in `rows`, ascending, (R, V); all tokens go into the cache."""
        positions = [position for span in spans for position in range(span.past, span.length)]
        x = self._token_embeddings[torch.tensor(tokens)] + self._position_embeddings[torch.tensor(positions)]  # (T, C)
        for block in self._blocks:
            x = block(x, spans)
        if len(rows) < len(tokens):
            x = x[torch.tensor(rows)]  # (R, C)
        logits: FloatArray = _head(self._ln_f(x), self._token_embeddings).numpy()
        return logits


def _mask(span: Span) -> torch.Tensor | None:
    """Which keys each query may look at, (t, L), where neither "all" nor torch's own causal mask says it.

    torch aligns its causal mask to the upper left corner; a piece behind others needs the lower right one.
    """
    added = span.stop - span.start
    if span.past == 0 or added == 1:
        return None
    return torch.ones(added, span.length, dtype=torch.bool).tril(span.past)


def _head(x: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """The logits, (T, C) -> (T, V): how alike the final state is to each token's embedding."""
    # In this order, and with at least two states, MKL reads the embeddings as fast as memory gives them. The usual
    # order, or a single state, takes two to four times as long for the batches of decoding.
    states = torch.cat((x, x)) if len(x) == 1 else x
    return (embeddings @ states.T).T[: len(x)].contiguous()


def load_weights(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, torch.Tensor]:
    """The weights as torch tensors of 32 bits, every one that the architecture needs and no other.

    Raises:
        CorruptModelError: a tensor is missing or does not have the shape the architecture gives it.
        UnsupportedModelError: a tensor is of a type or name that is not implemented.
    """
    shapes = config.tensor_shapes()
    for name in tensors:
        if name not in shapes:
            raise UnsupportedModelError(f"tensor {name!r} is not part of GPT-2 as it is implemented")
    weights = {}
    for name, shape in shapes.items():
        if name not in tensors:
            raise CorruptModelError(f"tensor {name!r} is missing")
        tensor = tensors[name]
        if tensor.shape != shape:
            raise CorruptModelError(f"tensor {name!r} must have the shape {list(shape)}, given {list(tensor.shape)}")
        weights[name] = as_torch(name, tensor).float()
    return weights
