"""The runtime as a process: initialised, put to sleep in a snapshot and restored, or said to have failed at it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lifecycle.local.runtime_api import LocalRuntimeApi
from tests.runtimes import PATIENCE, answer, url_event

FUNCTION = "tests.functional.sleeping_function:app"


@asynccontextmanager
async def process(api: LocalRuntimeApi, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The runtime, ended at the latest when the block is left."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "handler.runtime", FUNCTION),
        env={**os.environ, "AWS_LAMBDA_RUNTIME_API": api.address, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
        await running.communicate()


def test_without_a_snapshot_no_hook_is_called() -> None:
    async def test() -> None:
        async with LocalRuntimeApi() as api, process(api):
            assert (await answer(api.invoke(url_event("/"))))[1] == b""

    asyncio.run(test())


def test_hooks_are_called_around_the_snapshot() -> None:
    async def test() -> None:
        async with LocalRuntimeApi() as api, process(api, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start"):
            invocation = api.invoke(url_event("/"))
            await asyncio.wait_for(api.snapshot.wait(), PATIENCE)
            assert not api.asked.is_set()
            api.restored.set()
            assert (await answer(invocation))[1] == b"before after"
            assert api.failures == []

    asyncio.run(test())


@pytest.mark.parametrize(
    ("stage", "status", "path", "kind", "message"),
    [
        ("init", 1, "/init/error", "ValueError", "The function cannot be initialised."),
        ("before", 64, "/init/error", "Runtime.BeforeSnapshotError", "There can be no snapshot."),
        ("after", 65, "/restore/error", "Runtime.AfterRestoreError", "It cannot be restored."),
    ],
)
def test_whatever_fails_before_the_first_invocation_is_told(
    stage: str, status: int, path: str, kind: str, message: str
) -> None:
    snap_start = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "FAIL_AT": stage}

    async def test() -> None:
        async with LocalRuntimeApi() as api:
            api.restored.set()
            async with process(api, **snap_start) as running:
                assert await asyncio.wait_for(running.wait(), PATIENCE) == status
            (failure,) = api.failures
            assert (failure.path, failure.kind) == (path, kind)
            assert (failure.document["errorType"], failure.document["errorMessage"]) == ("ValueError", message)

    asyncio.run(test())
