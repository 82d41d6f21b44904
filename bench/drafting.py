"""`make bench-drafting`: what prompt-lookup decoding wins where text repeats, and what it costs where it does not.

The demo model, with 8 bits, writes 96 tokens behind each prompt, with drafts and without, in turn; both must write the
same. Figures: `decode` in tokens a second, subjects `drafting` and `plain`; settings say what was written and how.
The model is small, so that a step is bound by more than memory and drafts win less than they do for a large one.
"""

import time
from itertools import product
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.engine import ROOT
from bench.report import Report
from bench.weights import layout_of
from handler.inference.config import ModelConfig
from handler.inference.native import NativeEngine
from handler.inference.protocol import GenerationRequest, SamplingParams, TokenGenerated
from handler.inference.scheduler import Scheduler
from lifecycle.checkpoint import CONFIG, TOKENIZER, WEIGHTS, read_json, read_tokenizer
from lifecycle.local.models import DEMO
from lifecycle.machine import describe_machine
from lifecycle.packing import pack
from lifecycle.weights import map_tensors

ROUNDS: Final = 9
NEW: Final = 96

_VERSE: Final = (
    "The whale swam round the ship, and the ship sailed after the whale, and the captain cried, There she blows! "
)

PROMPTS: Final = {
    "repeating": (_VERSE * 4, "Emma, Emma, Emma, Emma, Emma, Emma, Emma, Emma,", "one two three four " * 8),
    "prose": ("Once upon a time", '"My dear Emma," said', "Father Brown looked at the window and"),
}
SAMPLING: Final = {"greedy": SamplingParams(temperature=0), "sampled": SamplingParams(temperature=0.8, top_p=0.95)}


def main() -> None:
    """Measure, print and write."""
    config, layout = ModelConfig.from_json(read_json(DEMO / CONFIG)), layout_of(8)
    tokenizer = read_tokenizer(DEMO / TOKENIZER)
    tensors = pack(config, map_tensors(DEMO / WEIGHTS)[0], layout)
    subjects = {
        name: Scheduler(NativeEngine(config, tensors, layout, kv_cache_bytes=10**8), drafting=drafting)
        for name, drafting in (("drafting", True), ("plain", False))
    }
    report = Report()
    for number, (text, how) in product(range(ROUNDS + 1), product(PROMPTS, SAMPLING)):
        for prompt in PROMPTS[text]:
            request = GenerationRequest((tuple(tokenizer.encode(prompt)),), (SAMPLING[how],), max_tokens=NEW)
            written = {}
            for name, scheduler in subjects.items():
                started = time.perf_counter()
                written[name] = [e.token for e in scheduler.submit(request) if isinstance(e, TokenGenerated)]
                seconds = time.perf_counter() - started
                if number:  # the first round warms up
                    setting = {"text": text, "sampling": how}
                    report.add("decode", name, setting, "tok/s", len(written[name]) / seconds)
            if written["drafting"] != written["plain"]:
                raise RuntimeError(f"drafts have changed what is written behind {prompt!r}")
    for scheduler in subjects.values():
        scheduler.close()
    report.write(Path(ROOT / "bench/results/drafting.jsonl"), describe_machine())
    for text, how in product(PROMPTS, SAMPLING):
        setting = {"text": text, "sampling": how}
        plain = report.median("decode", "plain", setting)
        Console().print(report.table("decode", setting, f"decode, tok/s ({text}, {how})", {"x plain": plain}))


if __name__ == "__main__":
    main()
