"""What is in the image, and what is not."""

import json
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from transformers import AutoModelForCausalLM

from tests.causal_models import TOKENIZER, continued
from tests.containers.conftest import NOWHERE, Python

pytestmark = pytest.mark.container

# Files of the environment and the function, bytecode included; 747 MB when this was written, 345 of them libtorch_cpu.
MOST_MEGABYTES = 800

# What a start reads before its first token, at the most: files, and megabytes if each were read to its end; of
# libraries the kernel reads what is touched. When this was written there were 751 files of 90 MB.
MOST_READ = {
    "interpreter": (220, 6),
    "packages": (460, 12),
    "function": (150, 1),
    "libraries": (60, 90),
}

# Python 3.12's syntax; torch imports it nowhere.
NOT_COMPILED = ["/opt/torch/torch/testing/_internal/py312_intrinsics.py"]


def test_starts_the_handler_and_may_be_snapshotted(image: Any) -> None:
    config = image.attrs["Config"]
    assert config["Entrypoint"] == ["python", "-m", "awslambdaric"]
    assert config["Cmd"] == ["handler.main.handler"]
    assert config["WorkingDir"].rstrip("/") == "/var/task"
    assert config["Labels"]["com.amazonaws.lambda.feature.snapstart"] == "Allow"


def test_runs_as_nobody_where_nobody_else_decides(engine: DockerClient, image: Any) -> None:
    # Lambda and `sam local` choose the user themselves.
    assert image.attrs["Config"]["User"] == ""
    plain, _ = engine.images.build(path=".", rm=True)
    engine.images.remove(plain.id)
    assert plain.attrs["Config"]["User"] == "65534"


def test_application_is_readable_to_whoever_runs_it_and_imports_no_torch(python: Python) -> None:
    program = """
import sys
import handler.app, handler.events.http, handler.events.direct, handler.loading
print(sorted({"torch", "transformers", "huggingface_hub"} & set(sys.modules)))
"""
    assert python(program) == "[]\n"


def test_our_own_runtime_is_readable_and_finds_what_it_needs(python: Python) -> None:
    assert (
        python("import handler.runtime.__main__, handler.runtime.loop, handler.api.issuer; print('there')") == "there\n"
    )


def test_what_a_plain_start_reads_up_to_its_first_token(python: Python, cloud: dict[str, str]) -> None:
    """Every file but the kernel's, from the interpreter's start on: what it opens, and what the linker maps.

    Nearly all are what the kernel is asked for ahead, and nearly all of that is read.
    """
    program = """
import json, os, sys
opened = {module.__cached__ for module in list(sys.modules.values()) if getattr(module, "__cached__", None)}
sys.addaudithook(lambda event, args: opened.add(args[0]) if event == "open" and isinstance(args[0], str) else None)

import threading
import awslambdaric.bootstrap
from handler.main import handler

class Context:
    get_remaining_time_in_millis = staticmethod(lambda: 20_000)

answer = handler({"prompt": "Once upon a time", "max_tokens": 1}, Context())
assert answer["usage"]["completion_tokens"] == 1, answer
[thread.join() for thread in threading.enumerate() if thread.name == "make client"]
assert not {"torch", "transformers", "numpy.random", "pydantic.v1"} & set(sys.modules)
mapped = {line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if "/" in line}

def kind(path):
    if path in mapped:
        return "libraries"
    folders = {"/var/task": "function", "/opt/venv": "packages", "/opt/torch": "torch"}
    return next((kind for folder, kind in folders.items() if path.startswith(folder)), "interpreter")

read = {}
for path in opened | mapped:
    if os.path.isfile(path) and not path.startswith(("/proc", "/sys", "/dev")):
        read.setdefault(kind(path), []).append(path)
with open(os.environ["READ_AHEAD"]) as paths:
    listed = set(paths.read().split("\\n"))
everything = {path for paths in read.values() for path in paths}
print(json.dumps([sorted(listed - everything), sorted(everything - listed)]))
print(json.dumps({kind: sorted(paths) for kind, paths in read.items()}))
print(json.dumps({kind: [len(paths), sum(map(os.path.getsize, paths)) / 1e6] for kind, paths in read.items()}))
"""
    variables = {name: cloud[name] for name in cloud if name.startswith("AWS_") or name in NOWHERE}
    *_, differences, listed, totals = python(program, variables).splitlines()
    in_vain, missing = json.loads(differences)
    assert in_vain == []
    assert len(missing) < 40, missing
    read = {kind: (files, megabytes) for kind, (files, megabytes) in json.loads(totals).items()}
    assert read.keys() == MOST_READ.keys(), listed
    for kind, (files, megabytes) in read.items():
        most_files, most_megabytes = MOST_READ[kind]
        assert most_files / 2 < files < most_files, (kind, listed)
        assert most_megabytes / 2 < megabytes < most_megabytes, (kind, listed)


def test_the_native_engine_loads_and_needs_no_compilers_library(python: Python) -> None:
    program = """
from handler.inference.library import PATH, library
print(library().native_isa(b"portable").decode(), PATH.with_name("native").exists())
"""
    assert python(program) == "portable False\n"


def test_engine_runs_with_what_is_left_of_torch(python: Python) -> None:
    assert python("import torch; import handler.inference.reference; print(torch.__version__)") == "2.13.0+cpu\n"


def test_other_models_are_served_with_what_is_left_of_transformers(
    python: Python, cloud: dict[str, str], llama: Path
) -> None:
    program = """
import json
from handler.main import handler

class Context:
    get_remaining_time_in_millis = staticmethod(lambda: 60_000)

print(json.dumps(handler({"prompt": "the sea", "max_tokens": 8, "temperature": 0}, Context())))
"""
    variables = {name: cloud[name] for name in cloud if name.startswith("AWS_") or name in NOWHERE}
    *_, said = python(program, variables | {"MODEL_NAME": "llama"}).splitlines()
    answer = json.loads(said)
    peer = AutoModelForCausalLM.from_pretrained(llama)
    assert answer["choices"][0]["text"] == continued(peer, TOKENIZER.encode("the sea"), 8)
    assert answer["system_fingerprint"].split("-")[1] == "transformers"


def test_holds_the_function_and_nothing_of_the_build(python: Python) -> None:
    program = """
import json, os, shutil
print(json.dumps({
    "tools": [tool for tool in ("gcc", "cc", "g++", "ld", "strip", "make") if shutil.which(tool)],
    "task": sorted(os.listdir("/var/task")),
    "tests": [path for root in ("/opt/venv/lib", "/opt/torch") for path, _, _ in os.walk(root)
              if path.endswith(("/tests", "/torch/test"))],
    "packages": [name for name in ("pip", "pytest", "lifecycle", "moto", "hf_xet", "huggingface_hub")
                 if os.path.exists(f"/opt/venv/lib/python3.11/site-packages/{name}")],
    "services": sorted(entry.name for entry in os.scandir("/opt/venv/lib/python3.11/site-packages/botocore/data")
                       if entry.is_dir()),
}))
"""
    assert json.loads(python(program)) == {
        "tools": [],
        "task": ["handler"],
        "tests": [],
        "packages": [],
        "services": ["dynamodb", "events", "s3", "sqs", "sts"],
    }


def test_everything_is_compiled_and_trusted_without_a_look_at_the_source(python: Python) -> None:
    program = """
import importlib.util, json, pathlib, sysconfig
missing, checked = [], []
roots = [pathlib.Path(root) for root in ("/opt/venv/lib", "/opt/torch", "/var/task")]
for source in [source for root in roots for source in root.rglob("*.py")] + \\
        list(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")):
    compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
    if not compiled.exists():
        missing.append(str(source))
    elif compiled.read_bytes()[4:8] != b"\\x01\\0\\0\\0":  # PEP 552: hash-based, and not to be checked
        checked.append(str(source))
print(json.dumps([missing, checked]))
"""
    assert json.loads(python(program)) == [NOT_COMPILED, []]


def test_is_no_larger_than_need_be(python: Python) -> None:
    program = """
import os
print(sum(os.lstat(os.path.join(path, name)).st_size
          for root in ("/opt/venv", "/opt/torch", "/var/task") for path, _, names in os.walk(root) for name in names))
"""
    assert int(python(program)) / 1e6 < MOST_MEGABYTES
