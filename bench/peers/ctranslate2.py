"""CTranslate2 with weights of 8 bits: `ctranslate2 CHECKPOINT WORKSHOP`."""

import json
import os
import sys
from functools import partial
from pathlib import Path

from ctranslate2 import Generator
from ctranslate2.converters import TransformersConverter

from bench.peers.child import Generate, Tokens, made, serve


def load(checkpoint: Path, workshop: Path) -> Generate:
    """The converted model."""

    def convert(path: Path) -> None:
        TransformersConverter(str(checkpoint)).convert(str(path), quantization="int8")

    folder = made(workshop / "int8", convert)
    generator = Generator(
        str(folder), "cpu", compute_type="int8", inter_threads=1, intra_threads=int(os.environ["OMP_NUM_THREADS"])
    )
    names: list[str] = json.loads((folder / "vocabulary.json").read_text())

    def generate(prompts: Tokens, new: int) -> Tokens:
        results = generator.generate_batch(
            [[names[token] for token in prompt] for prompt in prompts],
            min_length=new,
            max_length=new,
            include_prompt_in_result=False,
        )
        return [result.sequences_ids[0] for result in results]

    return generate


if __name__ == "__main__":
    serve(partial(load, Path(sys.argv[1]), Path(sys.argv[2])))
