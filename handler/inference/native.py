"""The native engine: packed weights of 8 or 4 bits, read in place by kernels in C++, a `StepEngine` without torch.

A sequence's logits are the same bits whatever else is in the batch, however its prompt is cut into chunks and for any
number of threads (see native/kernels_impl.h). What is here is the seam: tensors checked and handed over as pointers,
slots kept, logits received in numpy.
"""

import ctypes
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from handler.errors import EngineError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.library import Shape, library
from handler.inference.packed import LAYOUT_BITS, check_packed
from handler.inference.protocol import FloatArray
from handler.inference.slots import SlottedEngine, Span
from handler.inference.threads import available_processors
from handler.inference.weights import Tensor

LANES: Final = 16  # logits are written so many at a time


class NativeEngine(SlottedEngine):
    """GPT-2 on the CPU in integer arithmetic."""

    batch_invariant = True

    def __init__(
        self, config: ModelConfig, tensors: Mapping[str, Tensor], layout: str, *, kv_cache_bytes: int, threads: int = 0
    ) -> None:
        """Check the tensors and hand them over; nothing is copied and nothing computed.

        Args:
            config: the architecture.
            tensors: the packed weights; the bytes they are views of must not change any more.
            layout: how they are packed.
            kv_cache_bytes: room for keys and values; the slots are as many sequences as fit.
            threads: threads of the engine, 0 for as many as there are processors.

        Raises:
            OSError: there is no compiled library, or this machine cannot load it.
            CorruptModelError: a tensor is missing or not as the layout has it.
            UnsupportedModelError: the layout is unknown, the instruction set that NATIVE_ISA names cannot be had
                here, or not one sequence fits the cache.
        """
        self._library = library()
        check_packed(config, tensors, layout)
        # For tests and benchmarks: a lesser instruction set than the best one.
        isa = os.environ.get("NATIVE_ISA", "").encode() or None
        best = self._library.native_isa(isa)
        if best is None:
            raise UnsupportedModelError(f"NATIVE_ISA={os.environ['NATIVE_ISA']} cannot be had on this processor")
        bits = LAYOUT_BITS[layout]
        self.name = f"native-int{bits}-{best.decode()}"
        shape = Shape(
            layers=config.layers,
            heads=config.heads,
            width=config.width,
            inner_width=config.inner_width,
            context=config.context_length,
            vocabulary=config.vocabulary_size,
            exact_gelu=config.activation == "gelu",
            epsilon=config.layer_norm_epsilon,
        )
        slot_bytes = self._library.native_slot_bytes(shape)
        super().__init__(
            context_length=config.context_length,
            vocabulary_size=config.vocabulary_size,
            slot_bytes=slot_bytes,
            kv_cache_bytes=kv_cache_bytes,
        )
        # Views of the weights, kept as long as the engine has pointers to them.
        self._weights = [np.frombuffer(tensors[name].data, np.uint8) for name in tensor_order(config)]
        pointers = (ctypes.c_void_p * len(self._weights))(*(array.ctypes.data for array in self._weights))
        self._engine = self._library.native_create(
            shape, bits, pointers, self._slots.count, threads or available_processors(), isa
        )
        if not self._engine:
            raise EngineError("the native engine could not be created: its memory or threads cannot be had")
        # Not at exit: the scheduler's thread may be in the middle of a step then, and the system frees everything.
        weakref.finalize(self, self._library.native_destroy, self._engine).atexit = False
        self._logits: FloatArray = np.empty((0, -(-config.vocabulary_size // LANES) * LANES), np.float32)

    def _copy(self, slot: int, copy: int, length: int) -> None:
        """Copy the keys and values of a slot's first `length` tokens."""
        self._library.native_copy(self._engine, slot, copy, length)

    def _forward(self, tokens: Sequence[int], spans: Sequence[Span], rows: Sequence[int]) -> FloatArray:
        """The logits after the tokens whose indices are in `rows`; they lie in memory that the next call uses again."""
        ids = np.array(tokens, np.int32)
        places = np.array([(span.slot, span.past, span.stop - span.start) for span in spans], np.int32)
        wanted = np.array(rows, np.int32)
        if len(wanted) > len(self._logits):
            self._logits = np.empty((len(wanted), self._logits.shape[1]), np.float32)
        failed = self._library.native_forward(
            self._engine,
            ids.ctypes.data,
            places.ctypes.data,
            len(places),
            wanted.ctypes.data,
            len(wanted),
            self._logits.ctypes.data,
            self._logits.shape[1],
        )
        if failed:
            raise EngineError("the native engine has no memory for this step")
        return self._logits[: len(wanted), : self.vocabulary_size]


def tensor_order(config: ModelConfig) -> list[str]:
    """The packed tensors in the order in which native/api.cpp takes them."""
    names = ["wte.weight", "wte.scale", "wpe.weight"]
    for layer in range(config.layers):
        for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            names.append(f"h.{layer}.{part}.weight")
            if not part.startswith("ln"):
                names.append(f"h.{layer}.{part}.scale")
            names.append(f"h.{layer}.{part}.bias")
    return [*names, "ln_f.weight", "ln_f.bias"]
