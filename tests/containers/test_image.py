"""What is in the image, and what is not."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from docker import DockerClient

pytestmark = pytest.mark.container

Python = Callable[[str], str]

# Files of the environment and the function, bytecode included; 552 MB when this was written, 345 of them libtorch_cpu.
MOST_MEGABYTES = 620

# What the interpreter opens on its way to the entry point; shared libraries, which the linker opens, come on top.
MOST_READ_MEGABYTES = 20

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


def test_a_plain_start_reads_nothing_of_torchs_layer(python: Python) -> None:
    program = """
import json, os, sys
opened = set()
sys.addaudithook(lambda event, args: opened.add(args[0]) if event == "open" and isinstance(args[0], str) else None)
import handler.main
files = [file for file in opened if os.path.isfile(file)]
print(json.dumps({
    "torch": [file for file in files if file.startswith("/opt/torch")],
    "megabytes": sum(map(os.path.getsize, files)) / 1e6,
    "files": len(files),
}))
"""
    read = json.loads(python(program).splitlines()[-1])
    assert read["torch"] == []
    assert read["files"] > 100
    assert read["megabytes"] < MOST_READ_MEGABYTES


def test_the_native_engine_loads_and_needs_no_compilers_library(python: Python) -> None:
    program = """
from handler.inference.library import PATH, library
print(library().native_isa(b"portable").decode(), PATH.with_name("native").exists())
"""
    assert python(program) == "portable False\n"


def test_engine_runs_with_what_is_left_of_torch(python: Python) -> None:
    assert python("import torch; import handler.inference.reference; print(torch.__version__)") == "2.13.0+cpu\n"


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
