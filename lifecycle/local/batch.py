"""`make batch`: a file of requests through the state machine for bulk, on this machine: its engine, S3 and function."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from handler.errors import EngineError, InvalidRequestError
from handler.registry.s3 import s3_client
from handler.telemetry import logger
from handler.work.bulk.runs import INPUTS, RUNS
from lifecycle.local.cloud import RESULTS_BUCKET, embedded_cloud
from lifecycle.local.models import publish_source
from lifecycle.local.state_machine import StateMachine, definition, local_state_machine

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Ranges at once; one model answers all of them together.
CONCURRENCY = 2

FUNCTION_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Invocation:
    """The context of an invocation that has just begun."""

    ends: float

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end it."""
        return int((self.ends - time.time()) * 1000)


def answer_file(file: Path, source: str, out: Path, console: Console) -> dict[str, Any]:
    """Answer a file in OpenAI's batch format.

    Args:
        file: the requests.
        source: the model, as `publish_source` takes it.
        out: where the answers go; errors go beside it, to a file that ends in `.errors.jsonl`.
        console: where progress is shown.

    Returns:
        What the state machine returned: keys and counts.

    Raises:
        InvalidRequestError: the file is no good.
        EngineError: the run failed.
    """
    logger.setLevel("ERROR")
    with embedded_cloud() as cloud:
        os.environ.update(cloud.environment(publish_source(source, cloud.store, console)), AUTH_MODE="iam")
        s3 = s3_client(attempts=5)
        s3.upload_file(str(file), RESULTS_BUCKET, f"{INPUTS}{file.name}")

        from handler.main import handler  # noqa: PLC0415 - it reads the environment, and begins to load the model

        def function(event: dict[str, Any]) -> Any:
            return handler(event, Invocation(time.time() + FUNCTION_SECONDS))

        text = definition(RESULTS_BUCKET, CONCURRENCY)
        with local_state_machine(cloud.endpoint, text, function) as machine:
            result = _watched(machine, {"input": f"{INPUTS}{file.name}"}, _Answered(s3), _lines(file), console)
        for key, path in ((result["output"], out), (result["errors"], out.with_suffix(".errors.jsonl"))):
            if key is not None:
                s3.download_file(RESULTS_BUCKET, key, str(path))
    return result


class _Answered:
    """Counts the lines that are answered; every part is read once."""

    def __init__(self, s3: "S3Client") -> None:
        self._s3 = s3
        self._sizes: dict[str, int] = {}

    def count(self) -> int:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=RESULTS_BUCKET, Prefix=RUNS)
        for page in pages:
            for key in (each["Key"] for each in page.get("Contents", ())):
                if "/answers/" in key and key.endswith(".json") and key not in self._sizes:
                    part = self._s3.get_object(Bucket=RESULTS_BUCKET, Key=key)["Body"].read()
                    self._sizes[key] = len(json.loads(part))
        return sum(self._sizes.values())


def _watched(
    machine: StateMachine, event: dict[str, Any], answered: _Answered, lines: int, console: Console
) -> dict[str, Any]:
    """Run an execution with a progress bar, and return its output."""
    columns = (TextColumn("answered"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=lines)
        execution = machine.start(event)
        while (described := machine.describe(execution))["status"] == "RUNNING":
            time.sleep(0.5)
            bar.update(task, completed=answered.count())
    if described["status"] == "SUCCEEDED":
        output: dict[str, Any] = json.loads(described["output"])
        return output
    error, cause = described.get("error", ""), described.get("cause", "")
    if error in ("InvalidRequestError", "NoSuchObjectError"):
        raise InvalidRequestError(json.loads(cause)["errorMessage"])
    raise EngineError(f"The run has ended as {described['status']}: {error} {cause}")


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(bool(line.strip()) for line in lines)
