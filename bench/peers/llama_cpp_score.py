"""How probable llama.cpp finds given tokens: `llama_cpp_score CHECKPOINT WORKSHOP q8_0|q4_0`.

Reads windows of token ids as JSON, `[[token, ...], ...]`, and prints the negative log-likelihood, in nats, of all
tokens but the first of each.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np

from bench.peers.child import Tokens, made
from bench.peers.llama_cpp import FILE_TYPES, write_gguf


def load(checkpoint: Path, workshop: Path, kind: str, length: int) -> tuple[Any, int]:
    """A context for one sequence of `length` tokens, and the size of the vocabulary."""
    workshop.mkdir(parents=True, exist_ok=True)
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPES[kind], 1
    plain, path = made(workshop / "f32.gguf", partial(write_gguf, checkpoint)), workshop / f"{kind}.gguf"
    llama.llama_backend_init()
    if llama.llama_model_quantize(str(plain).encode(), str(path).encode(), params):
        raise RuntimeError(f"llama.cpp could not quantize {plain}")
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    settings = llama.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = length
    return llama.llama_init_from_model(model, settings), llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))


def nats(context: Any, vocabulary: int, windows: Tokens) -> float:
    """The negative log-likelihood of the windows."""
    batch = llama.llama_batch_init(max(map(len, windows)), 0, 1)
    total = 0.0
    for window in windows:
        llama.llama_memory_clear(llama.llama_get_memory(context), False)  # noqa: FBT003 - ctypes knows no names
        batch.n_tokens = len(window) - 1
        for index, token in enumerate(window[:-1]):
            batch.token[index], batch.pos[index], batch.logits[index] = token, index, True
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
        if llama.llama_decode(context, batch):
            raise RuntimeError("llama.cpp could not read a window")
        for index, target in enumerate(window[1:]):
            logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, index), (vocabulary,)).astype(np.float64)
            total += float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target])
    return total


if __name__ == "__main__":
    texts: Tokens = json.load(sys.stdin)
    opened, size = load(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], max(map(len, texts)))
    print(nats(opened, size, texts))  # noqa: T201 - the answer
