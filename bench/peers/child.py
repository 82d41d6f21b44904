"""A measured program's side of the line protocol; it needs nothing but Python.

The program prints a line of JSON when its model is loaded, `{"ready": true}`, and then answers each line it reads,
`{"prompts": [[token, ...], ...], "new": n}`, with `{"seconds": s, "tokens": [[token, ...], ...]}`: n tokens chosen
greedily behind each prompt, and the time from tokens in to tokens out. What goes wrong is answered with
`{"error": "..."}`. The end of its input ends it.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

Tokens = list[list[int]]
Generate = Callable[[Tokens, int], Tokens]


def serve(load: Callable[[], Generate]) -> None:
    """Load a model and generate as asked.

    Args:
        load: loads the model, or converts it first, and returns what generates: (prompts, new) -> new tokens.
    """
    # Libraries print what they like to standard output; the protocol keeps the real one for itself.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(line: dict[str, object]) -> None:
        answers.write(json.dumps(line) + "\n")

    try:
        generate = load()
        answer({"ready": True})
        for line in sys.stdin:
            request = json.loads(line)
            start = time.perf_counter()
            tokens = generate(request["prompts"], request["new"])
            answer({"seconds": time.perf_counter() - start, "tokens": tokens})
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        raise


def made(path: Path, make: Callable[[Path], None]) -> Path:
    """A file or folder that is made once, by a program that may be stopped half-way, and used ever after.

    Args:
        path: where it lies.
        make: makes it at the path it is given.
    """
    if not path.exists():
        unfinished = path.with_name(f"unfinished-{path.name}")
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        make(unfinished)
        unfinished.replace(path)
    return path
