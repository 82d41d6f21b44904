"""OpenVINO with weights of 8 bits: `openvino CHECKPOINT WORKSHOP [PROPERTY=VALUE ...]`.

Optimum exports the model with its key-value cache inside, as OpenVINO's own pipelines have it. Properties are those of
OpenVINO's CPU plugin.
"""

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from bench.peers.child import Generate, Tokens, made, serve

Array = npt.NDArray[Any]


def load(checkpoint: Path, workshop: Path, properties: Mapping[str, str]) -> Generate:
    """The exported model, compiled with these properties of the CPU plugin."""

    def export(path: Path) -> None:
        # Imported here because they bring torch, which only the conversion needs.
        from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig  # noqa: PLC0415

        config = OVWeightQuantizationConfig(bits=8)
        OVModelForCausalLM.from_pretrained(checkpoint, export=True, quantization_config=config).save_pretrained(path)

    folder = made(workshop / "int8", export)
    threads = int(os.environ["OMP_NUM_THREADS"])
    compiled = ov.Core().compile_model(
        folder / "openvino_model.xml",
        "CPU",
        {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", **properties},
    )
    names = {name for port in compiled.inputs for name in port.get_names()}

    def step(request: ov.InferRequest, ids: Array, length: int) -> Array:
        batch, added = ids.shape
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones((batch, length), np.int64),
            "position_ids": np.tile(np.arange(length - added, length), (batch, 1)),
            "beam_idx": np.arange(batch, dtype=np.int32),
        }
        outputs = request.infer({name: value for name, value in inputs.items() if name in names})
        chosen: Array = outputs["logits"][:, -1].argmax(1)[:, None]
        return chosen

    def generate(prompts: Tokens, new: int) -> Tokens:
        # Not one request, reset: after a smaller batch, its cache of 8 bits makes a larger one's logits NaN (2026.4.1).
        request = compiled.create_infer_request()
        length = len(prompts[0])
        chosen = [step(request, np.array(prompts), length)]
        for number in range(1, new):
            chosen.append(step(request, chosen[-1], length + number))
        return [list(map(int, tokens)) for tokens in np.concatenate(chosen, 1)]

    return generate


if __name__ == "__main__":
    checkpoint, workshop, *properties = sys.argv[1:]
    named = dict(text.split("=", 1) for text in properties)
    serve(partial(load, Path(checkpoint), Path(workshop), named))
