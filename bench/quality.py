"""`make bench-quality TEXT=...`: what quantizing costs, ours beside llama.cpp's, on the demo model.

Figure: `perplexity` per token on held-out text, windows as long as the context that start from end of text, the same
tokens for everybody. Subjects: the reference engine in 32 bits, the native engine with 8 and with 4 bits, llama.cpp
with Q8_0 and Q4_0.
"""

import json
import math
import subprocess
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from bench.catalogue import catalogue
from bench.engine import CACHE, ROOT
from bench.environments import InstallError, python_of
from bench.report import Report
from bench.weights import layout_of
from handler.inference.build import build_engine
from handler.inference.config import ModelConfig
from handler.inference.packed import LAYOUT_BITS
from handler.inference.protocol import StepEngine
from lifecycle.checkpoint import CONFIG, TOKENIZER, WEIGHTS, read_json, read_tokenizer
from lifecycle.comparing import compare, text_windows
from lifecycle.local.models import DEMO
from lifecycle.machine import describe_machine
from lifecycle.packing import pack
from lifecycle.weights import map_file, map_tensors, write_tensors

TOKENS: Final = 40_000
_KV_CACHE_BYTES: Final = 100_000_000


def main(
    text: Annotated[Path, typer.Argument(help="Text that the demo model was not trained on: a file or folder.")],
) -> None:
    """Measure, print and write."""
    config = ModelConfig.from_json(read_json(DEMO / CONFIG))
    windows = text_windows(read_tokenizer(DEMO / TOKENIZER), text, config.context_length, TOKENS)
    tokens = sum(len(window) - 1 for window in windows)
    report, setting = Report(), {"text": text.stem, "tokens": tokens}
    (CACHE / "demo").mkdir(parents=True, exist_ok=True)
    reference = engine(DEMO / WEIGHTS)
    for bits in sorted(LAYOUT_BITS.values(), reverse=True):
        packed = CACHE / "demo" / f"int{bits}.safetensors"
        write_tensors(packed, pack(config, map_tensors(DEMO / WEIGHTS)[0], layout_of(bits)), layout_of(bits))
        before, after = compare(reference, engine(packed), windows, lambda _tokens: None).perplexities
        if bits == 8:
            report.add("perplexity", "reference", setting, "per token", before)
        report.add("perplexity", f"native-int{bits}", setting, "per token", after)
    for entry in catalogue():
        if entry.program == "llama_cpp" and entry.isa == "native" and entry.environment is not None:
            try:
                environment = entry.environment
                python = python_of(
                    CACHE, environment.name, ROOT / f"bench/peers/{environment.requirements}.txt", environment.variables
                )
            except InstallError as error:
                Console(stderr=True).print(f"{entry.name}: {error}", markup=False)
                continue
            kind = entry.arguments[-1]
            command = [str(python), "-m", "bench.peers.llama_cpp_score", str(DEMO), str(CACHE / "demo"), kind]
            done = subprocess.run(
                command,
                cwd=ROOT,
                input=json.dumps(windows),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            )
            report.add("perplexity", entry.name, setting, "per token", math.exp(float(done.stdout) / tokens))
    report.write(ROOT / "bench/results/quality.jsonl", describe_machine())
    middle = report.median("perplexity", "reference", setting)
    Console().print(report.table("perplexity", setting, f"perplexity per token on {text.name}", {"x 32 bits": middle}))


def engine(weights: Path) -> StepEngine:
    """The engine that serves such weights of the demo model."""
    document = read_json(DEMO / CONFIG)
    return build_engine(document, map_file(weights), engine="auto", kv_cache_bytes=_KV_CACHE_BYTES, threads=0)


if __name__ == "__main__":
    typer.run(main)
