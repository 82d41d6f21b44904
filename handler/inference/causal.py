"""The transformers engine: any causal model of transformers over our slots, on a CPU or a GPU, a `StepEngine`.

The model is transformers' own but for its attention, which keeps keys and values where the scheduler's slots are: see
slotted_attention.py. So whatever is said of an engine (ragged batches, prompts in pieces, copies of a slot, scores of
every token) holds for all architectures alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from handler.errors import EngineError, ServiceError, UnsupportedModelError
from handler.inference.causal_model import find_device, load_model, read_config
from handler.inference.protocol import FloatArray
from handler.inference.sampling import NOT_FINITE
from handler.inference.slots import SlottedEngine, Span
from handler.inference.slotted_attention import ATTENTION, LayerCache, Place, Step, Survey
from handler.inference.threads import available_processors
from handler.inference.weights import Tensor


def causal_engine(
    document: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    device: str,
    kv_cache_bytes: int,
    context_limit: int | None = None,
    threads: int = 0,
    narrow: bool = False,
) -> "CausalEngine":
    """The engine for a model's files.

    Args:
        document: the object in the model's `config.json`.
        tensors: the weights by their names; the bytes they are views of must not change any more.
        device: "cpu", "cuda", or "auto" for a GPU where torch sees one.
        kv_cache_bytes: like what follows, see `CausalEngine`.
        context_limit: for sequences.
        threads: of torch.
        narrow: see `load_model`.

    Raises:
        CorruptModelError: a value of the configuration or a tensor is not as it should be.
        UnsupportedModelError: something about the model is not implemented, or there is no such device.
    """
    model = load_model(read_config(document), tensors, device=find_device(device), attention=ATTENTION, narrow=narrow)
    return CausalEngine(model, kv_cache_bytes=kv_cache_bytes, context_limit=context_limit, threads=threads)


class CausalEngine(SlottedEngine):
    """A causal model of transformers, in the type its weights have."""

    # torch adds up in another order for another number of rows.
    batch_invariant = False

    def __init__(
        self, model: PreTrainedModel, *, kv_cache_bytes: int, context_limit: int | None = None, threads: int = 0
    ) -> None:
        """Have the model read a token, to see what its layers keep of it, and make room for many.

        Args:
            model: from `load_model`, with the attention `slotted_attention.ATTENTION`.
            kv_cache_bytes: room for keys and values; the slots are as many sequences as fit.
            context_limit: the most tokens of a sequence that there is to be room for, where the model's context is
                longer.
            threads: threads torch may use on a CPU, 0 for as many as there are processors. torch keeps one number for
                all engines of the process.

        Raises:
            UnsupportedModelError: a layer wants to keep something else, or not one sequence fits.
        """
        torch.set_num_threads(threads or available_processors())
        self._model = model
        self._device = model.device.type
        self.name = f"transformers-{_processor(self._device)}"
        survey = Survey()
        try:
            logits = self._run([0], [0], [0], survey)
        except ServiceError:
            raise
        except Exception as error:  # whatever a model's own code raises where its sizes do not fit each other
            raise UnsupportedModelError(f"{type(model).__name__} cannot read a token: {error}") from error
        layers = model.config.num_hidden_layers
        if survey.layers.keys() != set(range(layers)):
            raise UnsupportedModelError(
                f"{type(model).__name__} keeps keys and values in {len(survey.layers)} of its {layers} layers; "
                "other kinds of memory are not implemented"
            )
        context = min(model.config.max_position_embeddings, context_limit or model.config.max_position_embeddings)
        token_bytes = sum(heads * (key + value) for heads, key, value in survey.layers.values()) * model.dtype.itemsize
        super().__init__(
            context_length=context,
            vocabulary_size=logits.shape[1],
            slot_bytes=token_bytes * context,
            kv_cache_bytes=kv_cache_bytes,
        )
        # Zeros, because a token that may not be looked at counts for nothing only if it is a number. On a CPU they are
        # not touched before they are used: memory is taken only by as many tokens as sequences really have.
        self._cache = [
            LayerCache(
                *(
                    torch.zeros(self._slots.count, heads, context, size, dtype=model.dtype, device=self._device)
                    for size in sizes
                )
            )
            for heads, *sizes in (survey.layers[layer] for layer in range(layers))
        ]

    def _copy(self, slot: int, copy: int, length: int) -> None:
        """Copy the keys and values of a slot's first `length` tokens."""
        for part in (part for layer in self._cache for part in layer):
            part[copy, :, :length] = part[slot, :, :length]

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[int], spans: Sequence[Span], rows: Sequence[int]) -> FloatArray:
        """The logits after the tokens whose indices are in `rows`, ascending, (R, V); all tokens go into the cache.

        Raises:
            EngineError: not all of them are finite numbers.
        """
        positions = [position for span in spans for position in range(span.past, span.length)]
        logits = self._run(tokens, positions, rows, Step(self._cache, spans, self._device))
        if not logits.sum().isfinite():
            # What is no number would stay so, times nothing, for whoever is decoded beside longer texts in these slots.
            for part in (part for layer in self._cache for part in layer):
                part[[span.slot for span in spans]] = 0
            raise EngineError(NOT_FINITE)
        array: FloatArray = logits.cpu().numpy()
        return array

    @torch.inference_mode()
    def _run(self, tokens: Sequence[int], positions: Sequence[int], rows: Sequence[int], place: Place) -> torch.Tensor:
        """The same logits, where the model is."""
        ids, positions_, wanted = (torch.tensor(n, device=self._device) for n in (tokens, positions, rows))
        logits: torch.Tensor = self._model(
            ids[None], position_ids=positions_[None], logits_to_keep=wanted, use_cache=False, place=place
        ).logits[0]
        return logits.float()


def _processor(device: str) -> str:
    """What the logits depend on, beside the model and the request."""
    if device == "cpu":
        return torch.backends.cpu.get_cpu_capability().lower()
    return "cuda-sm{}{}".format(*torch.cuda.get_device_capability())
