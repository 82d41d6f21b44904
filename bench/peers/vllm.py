"""vLLM with random weights: `vllm CONFIG SHARE`, a folder with a `config.json` and the share of the GPU's memory."""

import sys
from functools import partial
from pathlib import Path

from vllm import LLM, SamplingParams

from bench.peers.child import Generate, Tokens, serve


def load(folder: Path, share: float) -> Generate:
    """The engine, in 16 bits."""
    engine = LLM(
        model=str(folder),
        load_format="dummy",
        skip_tokenizer_init=True,
        dtype="float16",
        gpu_memory_utilization=share,
    )

    def generate(prompts: Tokens, new: int) -> Tokens:
        how = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
        outputs = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], how, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]

    return generate


if __name__ == "__main__":
    serve(partial(load, Path(sys.argv[1]), float(sys.argv[2])))
