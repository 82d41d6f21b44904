"""A promotion reaches a function that runs: the real runtime client and emulator, the real model, no deployment."""

import json
import shutil
import time
from pathlib import Path

from rich.console import Console

from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.invoke import emulated_function, invoke
from lifecycle.local.models import DEMO, packed_folder, publish_source
from lifecycle.promoting import LIVE, promote, rollback
from lifecycle.publishing import publish

EVENT = json.dumps({"prompt": "Emma", "max_tokens": 1}).encode()


def version_at(address: str) -> str:
    answer = json.loads(invoke(address, EVENT))
    return str(answer["system_fingerprint"]).partition("-")[0]


def becomes(address: str, version: str) -> bool:
    """Whether the function answers with this version before long."""
    end = time.monotonic() + 30
    while version_at(address) != version:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_a_running_function_follows_its_alias_there_and_back(tmp_path: Path) -> None:
    quiet = Console(quiet=True)
    with embedded_cloud() as cloud:
        name = publish_source("demo", cloud.store, quiet)
        first = cloud.store.alias(name, LIVE).version
        shutil.copytree(packed_folder(DEMO, quiet), tmp_path / "other")
        (tmp_path / "other" / "generation_config.json").write_text("{}")
        second = publish(tmp_path / "other", cloud.store, name).version
        with emulated_function({**cloud.environment(name), "REFRESH_SECONDS": "1"}) as address:
            assert version_at(address) == first
            promote(cloud.store, name, second, LIVE, force=True)
            assert becomes(address, second)
            rollback(cloud.store, name, LIVE)
            assert becomes(address, first)
