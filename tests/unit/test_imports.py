"""What a process imports, and when: no work at import that a request does not need."""

import json
import os
import socket
import subprocess
import sys

import pytest

# Each takes a tenth of a second or more, and nothing on the way to a token needs it.
NEVER = {
    "torch", "transformers", "boto3", "safetensors", "huggingface_hub", "jinja2", "jwt", "scipy", "pandas",
    "prometheus_client",
}  # fmt: skip

# What forwards to a GPU service, and who is forwarded to.
TANDEM = {"httpx", "jwt"}

# What our own runtime needs beside the function.
RUNTIME = {"h11", "awslambdaric"}

# What is imported before the first ranged read is on its way delays the whole start.
AFTER_THE_FIRST_READ = NEVER | {"fastapi", "starlette", "pydantic", "numpy", "tokenizers", "mangum", "asyncio"}


def modules_after(code: str) -> set[str]:
    """The top-level modules of a new process that has run this code with the least a function is told."""
    environment = {"MODELS_BUCKET": "models", "MODEL_NAME": "gpt2", "AUTH_MODE": "iam", **os.environ}
    said = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint('\\n' + json.dumps(list(sys.modules)))"],
        capture_output=True,
        check=True,
        text=True,
        env=environment,
    )
    # The model that cannot be loaded is told of in the log, perhaps behind it.
    [modules] = (line for line in said.stdout.splitlines() if line.startswith("["))
    return {name.partition(".")[0] for name in json.loads(modules)}


def test_reading_the_model_begins_before_the_application_is_imported() -> None:
    assert modules_after("import handler.fetching") & AFTER_THE_FIRST_READ == set()
    # Our own runtime imports the function before anything else.
    assert modules_after("import handler.runtime.__main__") & AFTER_THE_FIRST_READ == set()


def test_the_entry_point_imports_nothing_that_a_request_does_not_need() -> None:
    modules = modules_after("import handler.main")
    assert modules & (NEVER | RUNTIME | TANDEM) == set()
    assert {"fastapi", "mangum", "numpy", "tokenizers"} <= modules
    modules = modules_after("import handler.main, handler.runtime.loop")
    assert modules & NEVER == set()
    assert modules >= RUNTIME


def test_the_client_that_checks_keys_is_made_while_the_model_arrives_and_the_application_is_imported() -> None:
    code = """
import os, sys, threading
os.environ |= {"AUTH_MODE": "api-key", "KEYS_TABLE": "keys", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:%d"}
import handler.app, handler.events.sources, handler.runtime.snapshot
assert "boto3" not in sys.modules
import handler.main
[thread.join() for thread in threading.enumerate() if thread.name == "make client"]
assert handler.aws._dynamodb.cache_info().currsize == 1
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it lets everybody in and says nothing
        assert "boto3" in modules_after(code % silent.getsockname()[1])


@pytest.mark.parametrize(("variables", "needed"), [({}, {"jwt"}), ({"GPU_URL": "http://127.0.0.1:%d"}, TANDEM)])
def test_a_tandem_is_imported_by_those_who_are_in_one(variables: dict[str, str], needed: set[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = {name: value % silent.getsockname()[1] for name, value in variables.items()}
        code = f"import os; os.environ |= {told | {'TANDEM_KEY': 'x' * 32}}; import handler.main"
        assert modules_after(code) & TANDEM == needed
