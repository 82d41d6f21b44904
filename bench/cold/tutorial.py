"""The other side: `python -m bench.cold.tutorial baseline|from-pretrained FOLDER` starts, generates a token, tells.

`baseline` is the program of the tutorials: a text-generation pipeline; `from-pretrained` does without the pipeline.
Both read their model from the local disk. It prints the seconds from the start to each stage, as JSON.
"""

import json
import sys
from typing import Any

from handler.stages import ColdStart

PROMPT = "Once upon a time"


def baseline(folder: str, cold_start: ColdStart) -> None:
    """Flask's handler without Flask."""
    from transformers import pipeline  # noqa: PLC0415 - what is measured

    cold_start.reached("imports")
    generator = pipeline("text-generation", model=folder)
    cold_start.reached("ready")
    generator(PROMPT, max_new_tokens=1, do_sample=False)


def from_pretrained(folder: str, cold_start: ColdStart) -> None:
    """The model and its tokenizer, as the documentation of transformers has it."""
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    cold_start.reached("imports")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    cold_start.reached("ready")
    with torch.inference_mode():
        model.generate(**tokenizer(PROMPT, return_tensors="pt"), max_new_tokens=1, do_sample=False)


if __name__ == "__main__":
    this = ColdStart()
    this.reached("interpreter")
    {"baseline": baseline, "from-pretrained": from_pretrained}[sys.argv[1]](sys.argv[2], this)
    this.reached("first_token")
    sys.stdout.write("\n" + json.dumps(dict(this.stages)) + "\n")
