"""The baseline program: transformers' text-generation pipeline in 32 bits, as the tutorial has it.

Its pipeline takes text; a batch goes through the same model's `generate`, since the program knows no batches.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import pipeline

from bench.peers.child import Generate, Tokens, serve


def load(folder: Path) -> Generate:
    """The pipeline."""
    generator: Any = pipeline("text-generation", model=str(folder))

    def generate(prompts: Tokens, new: int) -> Tokens:
        if len(prompts) == 1:
            text = generator.tokenizer.decode(prompts[0])
            (result,) = generator(text, max_new_tokens=new, do_sample=False, return_tensors=True)
            sequences = [result["generated_token_ids"]]
        else:
            ids = torch.tensor(prompts)
            sequences = generator.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False
            ).tolist()
        return [sequence[len(prompt) :] for sequence, prompt in zip(sequences, prompts, strict=True)]

    return generate


if __name__ == "__main__":
    serve(partial(load, Path(sys.argv[1])))
