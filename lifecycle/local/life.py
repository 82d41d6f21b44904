"""`make lifecycle-demo`: a model's whole life on this machine, each step the command that a person would type.

A tiny model learns from one author, is evaluated, packed, published and served; then it learns from another author,
proves that it has, takes the first one's place, and gives it back.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from rich.console import Console

from handler.errors import StoreUnavailableError
from lifecycle.local.authors import two_authors
from lifecycle.local.cloud import BUCKET, embedded_cloud
from lifecycle.local.invoke import free_port
from lifecycle.local.serve import HOST, uvicorn_command, wait_until_ready

WORK = Path(".cache/life")
NAME = "life"

_SHARES = "--validation 0.1 --test 0.15"
_SIZES = "--context 128 --width 128 --layers 3 --heads 4 --dropout 0.1"
_LEARN = "--steps 400 --warmup 20 --batch-size 8 --eval-every 50 --patience 4 --precision fp32"
_QUESTION = {"model": NAME, "prompt": "The", "max_tokens": 40, "seed": 1, "temperature": 0.7}


def live(texts: Path | None, console: Console) -> None:
    """Run the whole life; what it makes lies in `WORK` afterwards.

    Args:
        texts: a folder of books, or None.
        console: where to say what is going on.

    Raises:
        InvalidRequestError: the folder does not hold two books.
        StoreUnavailableError: a command failed; it has said why.
    """
    started = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    with embedded_cloud() as cloud:
        os.environ["MODELS_BUCKET"] = BUCKET
        environment = {**cloud.environment(NAME), "AUTH_MODE": "none", "POWERTOOLS_LOG_LEVEL": "WARNING"}
        first, second = two_authors(texts, WORK / "texts", console)
        of_first, of_second = (f"--text {WORK}/{author}-shards/test.jsonl" for author in ("first", "second"))

        _say(console, "A model learns from the first author.")
        _run(f"prepare {first} --out {WORK}/first-shards --vocabulary 512 {_SHARES}")
        _run(f"train {WORK}/first-shards --out {WORK}/first {_SIZES} {_LEARN} --learning-rate 3e-3")
        _run(f"prepare {second} --out {WORK}/second-shards --tokenizer {WORK}/first {_SHARES}")

        _say(console, "It is packed, examined as it will be deployed, published, and made live.")
        _run(f"promote {NAME} {_published('first', f'{of_first} {of_second}')}")
        _ask(environment, console)

        _say(console, "It goes on with the second author, from what is live.")
        _run(f"train {WORK}/second-shards --out {WORK}/second --from {NAME}@live {_LEARN} --learning-rate 1e-3")
        # It is to write like the second author, and what it has forgotten of the first is no reason to keep it back.
        version = _published("second", of_second)
        _run(f"compare {WORK}/first-int8 {WORK}/second-int8")
        _run(f"promote {NAME} {version}")
        _ask(environment, console)

        _say(console, "The first one is wanted back.")
        _run(f"rollback {NAME}")
        _ask(environment, console)
        _run("list")
    console.print(f"A whole life in {time.monotonic() - started:.0f} s. The report: {WORK}/second-int8/evaluation.html")


def _published(model: str, texts: str) -> str:
    """Pack, evaluate and publish a model; returns its version."""
    packed = f"{WORK}/{model}-int8"
    _run(f"quantize {WORK}/{model} --out {packed}")
    _run(f"evaluate {packed} {texts}")
    return _run(f"publish {packed} --name {NAME}", quiet=True).strip()


def _run(words: str, *, quiet: bool = False) -> str:
    """Run a command of the command line, shown as it is typed; returns what it printed, where that is wanted."""
    print(f"\n$ lifecycle {words}", flush=True)  # noqa: T201 (to be typed again: not through rich, which breaks lines)
    command = [sys.executable, "-m", "lifecycle", *shlex.split(words)]
    done = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, text=True, check=False)
    if done.returncode:
        raise StoreUnavailableError(f"lifecycle {words} ended with status {done.returncode}")
    if quiet:
        print(done.stdout, end="", flush=True)  # noqa: T201
    return done.stdout or ""


def _ask(environment: dict[str, str], console: Console) -> None:
    """Serve what is live, and have it answer."""
    with _serving(environment) as address:
        request = Request(
            f"{address}/v1/completions", json.dumps(_QUESTION).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=60) as response:
            answer = json.load(response)
    text = " ".join(answer["choices"][0]["text"].split())
    console.print(f"\n{answer['system_fingerprint']} answers: {_QUESTION['prompt']} {text}", markup=False)


@contextmanager
def _serving(environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen(uvicorn_command(port), env={**os.environ, **environment})
    try:
        if not wait_until_ready(server, port):
            raise StoreUnavailableError("the server did not become ready; it has said why")
        yield f"http://{HOST}:{port}"
    finally:
        server.terminate()
        server.wait()


def _say(console: Console, sentence: str) -> None:
    console.rule(sentence, align="left")
