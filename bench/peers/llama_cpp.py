"""llama.cpp with weights of 8 or 4 bits: `llama_cpp CHECKPOINT WORKSHOP q8_0|q4_0`."""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as llama
import numpy as np
from safetensors.numpy import load_file

from bench.peers.child import Generate, Tokens, made, serve

FILE_TYPES = {"q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0}

SEQUENCES, CONTEXT = 8, 1024  # at once, and of each

# By transformers' names; src/llama-arch.cpp has them by llama.cpp's.
NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(checkpoint: Path, path: Path) -> None:
    """The checkpoint in 32 bits, without a tokenizer: tokens go in and come out as numbers."""
    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    for name, stored in load_file(checkpoint / "model.safetensors").items():
        array = stored.astype(np.float32)
        layer, kind = name.rsplit(".", 1)
        block = ""
        if layer.startswith("h."):
            _, number, layer = layer.split(".", 2)
            block = f"blk.{number}."
        matrix = array.ndim == 2 and block
        writer.add_tensor(f"{block}{NAMES[layer]}.{kind}", np.ascontiguousarray(array.T) if matrix else array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load(checkpoint: Path, workshop: Path, kind: str) -> Generate:
    """The quantized model, and a context for the largest batch."""

    def quantize(path: Path) -> None:
        plain = made(workshop / "f32.gguf", partial(write_gguf, checkpoint))
        params = llama.llama_model_quantize_default_params()
        params.ftype, params.nthread = FILE_TYPES[kind], 1
        if llama.llama_model_quantize(str(plain).encode(), str(path).encode(), params):
            raise RuntimeError(f"llama.cpp could not quantize {plain}")

    llama.llama_backend_init()
    path = made(workshop / f"{kind}.gguf", quantize)
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_seq_max = SEQUENCES * CONTEXT, SEQUENCES
    params.n_batch = params.n_ubatch = CONTEXT
    params.n_threads = params.n_threads_batch = int(os.environ["OMP_NUM_THREADS"])
    context = llama.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError(f"llama.cpp could not load {path}")
    return partial(generate, context, llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model)))


def generate(context: Any, vocabulary: int, prompts: Tokens, new: int) -> Tokens:
    """Read the prompts and decode greedily, all sequences in step."""
    llama.llama_memory_clear(llama.llama_get_memory(context), False)  # noqa: FBT003 - ctypes knows no names
    batch = llama.llama_batch_init(sum(map(len, prompts)), 0, 1)
    chosen: Tokens = []
    chunks, start = prompts, 0
    for _ in range(new):
        wanted = fill(batch, chunks, start)
        if llama.llama_decode(context, batch):
            raise RuntimeError("llama.cpp could not decode")
        rows = [llama.llama_get_logits_ith(context, index) for index in wanted]
        chosen.append([int(np.ctypeslib.as_array(row, (vocabulary,)).argmax()) for row in rows])
        start += len(chunks[0])
        chunks = [[token] for token in chosen[-1]]
    llama.llama_batch_free(batch)
    return [list(tokens) for tokens in zip(*chosen, strict=True)]


def fill(batch: Any, chunks: Tokens, start: int) -> list[int]:
    """Put a chunk of each sequence into the batch; returns where their last tokens are."""
    batch.n_tokens = 0
    wanted = []
    for sequence, chunk in enumerate(chunks):
        for offset, token in enumerate(chunk):
            index = batch.n_tokens
            batch.token[index], batch.pos[index] = token, start + offset
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = offset == len(chunk) - 1
            batch.n_tokens += 1
        wanted.append(batch.n_tokens - 1)
    return wanted


if __name__ == "__main__":
    serve(partial(load, Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
