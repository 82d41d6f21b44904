"""Attention over the slotted key-value cache, as a function that transformers' models call in place of their own.

A ragged batch is one row of tokens, as in the reference engine: the model runs once over all of them, and each of its
attention layers calls `attention`, which appends keys and values to the cache and lets every sequence look at its own.
Shapes are noted at line ends: T tokens of all sequences together, t of one sequence, L tokens in a sequence's cache, B
sequences, H heads of queries, K heads of keys and values (fewer: Ainslie et al. 2023, "GQA"), D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from handler.errors import UnsupportedModelError
from handler.inference.slots import Span

ATTENTION: Final = "slotted"

# Arguments of attention functions that change nothing where the cache is ours; any other one asks for something.
_HARMLESS: Final = {"output_attentions", "output_hidden_states", "output_router_logits", "position_ids", "use_cache"}

_NO_WINDOW: Final = 2**31
_ALL: Final = -1  # in place of a slot


class Asked(NamedTuple):
    """What a layer asks of its attention.

    Attributes:
        layer: the module.
        queries: of each token, (1, H, T, D).
        keys: of each token, (1, K, T, D).
        values: of each token, (1, K, T, D).
        scaling: multiplies the products of queries and keys; None for what is usual.
        window: the most tokens that each token looks at, itself included.
    """

    layer: Any
    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    scaling: float | None
    window: int


class LayerCache(NamedTuple):
    """The keys and values of one layer, (slots, K, context, D) each."""

    keys: torch.Tensor
    values: torch.Tensor


class Place(Protocol):
    """Where the tokens of a step belong: what a model is given as `place`, and hands on to its attention layers."""

    def attend(self, asked: Asked) -> torch.Tensor:
        """The values, mixed for each query, (1, T, H, D)."""


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    place: Place | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """What transformers' models call; the names of its parameters are theirs.

    Raises:
        UnsupportedModelError: the model asks for an attention of another kind.
    """
    kinds = {name for name, argument in others.items() if argument is not None} - _HARMLESS
    if attention_mask is not None:
        kinds.add("attention_mask")
    if is_causal is False or not getattr(module, "is_causal", True):
        kinds.add("is_causal=False")
    if dropout:
        kinds.add("dropout")
    if kinds or place is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} asks for an attention that is not implemented: "
            f"{', '.join(sorted(kinds)) or 'it does not say where its tokens belong'}"
        )
    return place.attend(Asked(module, query, key, value, scaling, sliding_window or _NO_WINDOW)), None


AttentionInterface.register(ATTENTION, attention)


class Survey:
    """The place of a single token, which is read to learn what the layers want to keep of it.

    Attributes:
        layers: by number, the heads of keys and values (K), and the sizes of a key and of a value.
    """

    def __init__(self) -> None:
        self.layers: dict[int, tuple[int, int, int]] = {}

    def attend(self, asked: Asked) -> torch.Tensor:
        """Let the token look at itself."""
        number = asked.layer.layer_idx
        if number in self.layers or asked.keys.shape[2] != 1:
            raise UnsupportedModelError(f"{type(asked.layer).__name__} keeps more than a key and a value of each token")
        self.layers[number] = asked.keys.shape[1], asked.keys.shape[3], asked.values.shape[3]
        return _mix(asked, asked.queries, asked.keys, asked.values, None)


@dataclass
class Step:
    """The place of several sequences' tokens: behind what the cache holds of each.

    Attributes:
        cache: of each layer.
        spans: where each sequence's tokens lie.
        device: where the cache is.
    """

    cache: Sequence[LayerCache]
    spans: Sequence[Span]
    device: str
    _masks: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)  # the same for most layers

    def attend(self, asked: Asked) -> torch.Tensor:
        """Append keys and values, and let each sequence's queries look at all of its own."""
        if len(self.spans) > 1 and len(self.spans) == asked.queries.shape[2]:
            return self._decode(asked)
        cache, mixed = self.cache[asked.layer.layer_idx], []
        for span in self.spans:
            rows, places = slice(span.start, span.stop), slice(span.past, span.length)
            cache.keys[span.slot, :, places] = asked.keys[0, :, rows]  # (K, t, D)
            cache.values[span.slot, :, places] = asked.values[0, :, rows]
            mixed.append(
                _mix(
                    asked,
                    asked.queries[:, :, rows],  # (1, H, t, D)
                    cache.keys[span.slot, None, :, : span.length],  # (1, K, L, D)
                    cache.values[span.slot, None, :, : span.length],
                    self._mask(span, asked.window),
                )  # (1, t, H, D)
            )
        return torch.cat(mixed, dim=1)

    def _decode(self, asked: Asked) -> torch.Tensor:
        """The same for one token of each sequence, all at once: a GPU takes longer to begin than to compute."""
        cache = self.cache[asked.layer.layer_idx]
        slots, past = self._places
        cache.keys[slots, :, past] = asked.keys[0].transpose(0, 1)  # (B, K, D)
        cache.values[slots, :, past] = asked.values[0].transpose(0, 1)
        longest = max(span.length for span in self.spans)
        mixed = _mix(
            asked,
            asked.queries.permute(2, 1, 0, 3),  # (B, H, 1, D)
            cache.keys[:, :, :longest][slots],  # (B, K, L, D)
            cache.values[:, :, :longest][slots],
            self._decoding_mask(longest, asked.window),
        )
        return mixed.transpose(0, 1)  # (1, B, H, D)

    @cached_property
    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Each sequence's slot, and the tokens it has had so far, (B) each."""
        both = torch.tensor([(span.slot, span.past) for span in self.spans], device=self.device)
        return both[:, 0], both[:, 1]

    def _decoding_mask(self, longest: int, window: int) -> torch.Tensor:
        """Which keys each sequence's one query may look at, (B, 1, 1, L)."""
        if (_ALL, window) not in self._masks:
            _, past = self._places
            keys = torch.arange(longest, device=self.device)  # (L)
            seen = (keys <= past[:, None]) & (keys > past[:, None] - window)  # (B, L)
            self._masks[_ALL, window] = seen[:, None, None]
        return self._masks[_ALL, window]

    def _mask(self, span: Span, window: int) -> torch.Tensor | None:
        """Which keys each query may look at, (1, 1, t, L), where neither "all" nor torch's own causal mask says it.

        torch aligns its causal mask to the upper left corner; a piece behind others needs the lower right one.
        """
        added = span.stop - span.start
        if span.length <= window and (span.past == 0 or added == 1):
            return None
        if (span.slot, window) not in self._masks:
            seen = torch.ones(added, span.length, dtype=torch.bool, device=self.device).tril(span.past)
            self._masks[span.slot, window] = seen.triu(span.past - window + 1)[None, None]
        return self._masks[span.slot, window]


def _mix(
    asked: Asked, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Torch's attention by way of transformers', which knows what it can do with fewer heads of keys and values."""
    return sdpa_attention_forward(asked.layer, queries, keys, values, mask, scaling=asked.scaling)[0]
