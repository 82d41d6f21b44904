"""SnapStart: a process is initialised, forked twice, and each copy goes on as a restored environment would.

A fork is the nearest thing to a snapshot on one machine: both copies have the same memory, and what was drawn before it
is drawn already. (Unlike a snapshot it copies no thread but one: hence an engine of one thread.)
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lifecycle.local.cloud import Cloud

EVENT = Path(__file__).parent.parent / "events" / "http-api-v2.json"

PROGRAM = """
import json, os, random, socket, sys
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot
from handler.aws import _dynamodb
from handler.main import handler, loading

class Context:
    aws_request_id = "0f1e2d3c"
    def get_remaining_time_in_millis(self):
        return 20_000

def connections():
    # The TCP connections this process holds.
    files = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    held = {os.readlink(file) for file in files if os.path.lexists(file)}
    inodes = [line.split()[9] for line in open("/proc/self/net/tcp")][1:]
    return sorted(held & {f"socket:[{inode}]" for inode in inodes})

def clients():
    # The SDK's clients, each of which keeps connections to use them again.
    return _dynamodb.cache_info().currsize

def answer():
    event = json.load(open(sys.argv[1]))
    event["body"] = json.dumps({"prompt": "Once upon a time", "max_tokens": 20})
    body = json.loads(handler(event, Context())["body"])
    text = body["choices"][0]["text"]
    return {"id": body["id"], "text": text, "random": random.random(), "clients": clients()}

assert answer()["clients"] == 1  # it has checked a key
run_before_snapshot()
snapshot = {"clients": clients(), "connections": connections()}
for copy in range(2):
    if os.fork() == 0:
        run_after_restore()
        print("\\n" + json.dumps({"snapshot": snapshot, **answer()}), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def restored(cloud: Cloud) -> list[dict[str, Any]]:
    """What each restored process says of itself."""
    snap_start = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(EVENT)],
        env={**os.environ, **cloud.environment("demo"), **snap_start},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["initialization"] for line in lines if line.get("message") == "cold start"] == ["snap-start"]
    assert len([line for line in lines if line.get("message") == "restored"]) == 2
    return [line for line in lines if "snapshot" in line]


def test_two_restores_share_no_seed(restored: list[dict[str, Any]]) -> None:
    first, second = restored
    assert first["text"] != second["text"]
    assert first["random"] != second["random"]


def test_two_restores_share_no_request_id(restored: list[dict[str, Any]]) -> None:
    first, second = restored
    assert first["id"] != second["id"]


def test_two_restores_share_no_connection(restored: list[dict[str, Any]]) -> None:
    first, second = restored
    nothing = {"clients": 0, "connections": []}
    assert (first["snapshot"], second["snapshot"]) == (nothing, nothing)
    assert (first["clients"], second["clients"]) == (1, 1)
