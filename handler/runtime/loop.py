"""A function's life: initialised, perhaps put to sleep in a snapshot, then one invocation after the other."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from awslambdaric.lambda_context import LambdaContext
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot
from mangum.types import ASGI

from handler.runtime.api import Invocation, RuntimeApi, report
from handler.runtime.cycle import HttpCycle
from handler.runtime.http import http_request

Handler = Callable[[Any, LambdaContext], Any]


class UnansweredEventError(Exception):
    """The event is no HTTP request, and nobody answers others."""


def no_handler(event: Any, context: LambdaContext) -> Any:  # noqa: ARG001 - a handler's signature
    """The handler of a function that has none."""
    raise UnansweredEventError("Only HTTP requests of a function URL or an API Gateway are answered here.")


def serve(address: str, application: ASGI, handler: Handler = no_handler) -> None:
    """Answer invocations until Lambda ends the process.

    Args:
        address: of the Runtime API, `HOST:PORT`.
        application: answers HTTP requests; what it sends is sent on at once.
        handler: answers all other events, in one piece.

    Raises:
        OSError: Lambda does not answer any more.
        RuntimeApiError: Lambda does not take what it is told.
    """
    api = RuntimeApi(address)
    # The loop runs only while there is something to do. In between, and for the handler, the thread is free: what is
    # called there may run the loop itself, as Mangum does.
    with asyncio.Runner() as runner:
        if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            _sleep_in_a_snapshot(runner, api)
        while True:
            _answer(runner, api, runner.run(api.next()), application, handler)


def _answer(
    runner: asyncio.Runner, api: RuntimeApi, invocation: Invocation, application: ASGI, handler: Handler
) -> None:
    os.environ.pop("_X_AMZN_TRACE_ID", None)
    if invocation.trace_id is not None:
        os.environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
    try:
        event = json.loads(invocation.payload)
        request = http_request(event, invocation.context)
        answer = b"" if request else json.dumps(handler(event, invocation.context)).encode()
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller hears of it
        report("the event cannot be answered", error)
        runner.run(api.fail(invocation, error))
        return
    if request:
        runner.run(HttpCycle(api, invocation, *request).run(application))
    else:
        runner.run(api.respond(invocation, answer))


def _sleep_in_a_snapshot(runner: asyncio.Runner, api: RuntimeApi) -> None:
    """Run the hooks registered with snapshot_restore_py; statuses and error types are awslambdaric's."""
    try:
        run_before_snapshot()
        runner.run(api.restore_next())
    except Exception as error:  # noqa: BLE001 - Lambda hears of it
        runner.run(api.fail_init(error, "Runtime.BeforeSnapshotError"))
        sys.exit(64)
    try:
        run_after_restore()
    except Exception as error:  # noqa: BLE001 - likewise
        runner.run(api.fail_restore(error))
        sys.exit(65)
