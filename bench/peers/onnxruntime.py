"""ONNX Runtime, dynamically quantized to 8 bits: `onnxruntime CHECKPOINT WORKSHOP`.

Optimum exports the model with its key-value cache, which goes in and comes out with every step.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.quantization import quantize_dynamic

from bench.peers.child import Generate, Tokens, made, serve

Array = npt.NDArray[Any]


def load(checkpoint: Path, workshop: Path) -> Generate:
    """The quantized model in a session."""

    def export(path: Path) -> None:
        # Imported here because it brings torch, which only the conversion needs.
        from optimum.exporters.onnx import main_export  # noqa: PLC0415

        main_export(
            checkpoint, path, task="text-generation-with-past", library_name="transformers", do_validation=False
        )

    def quantize(path: Path) -> None:
        quantize_dynamic(made(workshop / "f32", export) / "model.onnx", path)

    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = ort.InferenceSession(made(workshop / "int8.onnx", quantize), options, ["CPUExecutionProvider"])
    caches = {port.name: port.shape for port in session.get_inputs() if port.name.startswith("past_key_values")}
    names = {port.name for port in session.get_inputs()}

    def step(ids: Array, length: int, past: list[Array]) -> tuple[Array, list[Array]]:
        batch, added = ids.shape
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones((batch, length), np.int64),
            "position_ids": np.tile(np.arange(length - added, length), (batch, 1)),
            **dict(zip(caches, past, strict=True)),
        }
        logits, *present = session.run(None, {name: value for name, value in inputs.items() if name in names})
        return logits[:, -1].argmax(1)[:, None], present

    def generate(prompts: Tokens, new: int) -> Tokens:
        length = len(prompts[0])
        empty = [np.zeros((len(prompts), shape[1], 0, shape[3]), np.float32) for shape in caches.values()]
        token, past = step(np.array(prompts), length, empty)
        chosen = [token]
        for number in range(1, new):
            token, past = step(token, length + number, past)
            chosen.append(token)
        return [list(map(int, tokens)) for tokens in np.concatenate(chosen, 1)]

    return generate


if __name__ == "__main__":
    serve(partial(load, Path(sys.argv[1]), Path(sys.argv[2])))
