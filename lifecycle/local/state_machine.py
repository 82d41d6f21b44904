"""Step Functions on this machine: moto's interpreter runs the definition that is deployed, over a function called here.

What it leaves out: it runs every child to its end whatever share of them failed, writes an empty list of what the
children returned, and knows no redrive. docs/bulk.md says what that leaves unproven.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.core.config import default_user_config

from lifecycle.template import read_template

TEMPLATE: Final = Path(__file__).parents[2] / "infra" / "bulk.yaml"
WORKER: Final = "arn:aws:lambda:us-east-1:123456789012:function:worker:live"
_ROLE: Final = "arn:aws:iam::123456789012:role/state-machine"

Function: TypeAlias = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class StateMachine:
    """A state machine that can be started."""

    client: Any
    arn: str

    def start(self, event: Mapping[str, Any]) -> str:
        """Start an execution, and return its ARN."""
        # AWS draws a name where none is given; moto does not.
        started = self.client.start_execution(stateMachineArn=self.arn, name=uuid4().hex, input=json.dumps(event))
        execution: str = started["executionArn"]
        return execution

    def describe(self, execution: str) -> dict[str, Any]:
        """What has become of an execution: its `status`, and in the end its `output`."""
        described: dict[str, Any] = self.client.describe_execution(executionArn=execution)
        return described

    def run(self, event: Mapping[str, Any], seconds: float = 60) -> dict[str, Any]:
        """Start an execution and wait for its end, but no longer than this."""
        execution, end = self.start(event), time.monotonic() + seconds
        while (described := self.describe(execution))["status"] == "RUNNING" and time.monotonic() < end:
            time.sleep(0.05)
        return described


def template() -> dict[str, Any]:
    """infra/bulk.yaml, its short forms read as what they hold."""
    return read_template(TEMPLATE)


def definition(bucket: str, concurrency: int, tolerated_failures: str = "0.0") -> str:
    """The definition in infra/bulk.yaml, with its parameters filled in."""
    text: str = template()["Resources"]["StateMachine"]["Properties"]["DefinitionString"]
    values = {
        "AWS::Partition": "aws",
        "Worker": WORKER,
        "ResultsBucket": bucket,
        "Concurrency": str(concurrency),
        "ToleratedFailures": tolerated_failures,
    }
    return re.sub(r"\$\{([\w:]+)\}", lambda match: values[match[1]], text)


@contextmanager
def local_state_machine(endpoint: str, text: str, function: Function) -> Iterator[StateMachine]:
    """Have a stand-in of this process (moto's server) run a definition.

    Args:
        endpoint: the stand-in's address.
        text: the definition.
        function: what its tasks invoke; an exception is the function's error, under the name of its class.
    """
    # It warns of what it leaves out, twice a run, and tells of a failure in ten thousand characters.
    logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)
    invoke, config, port = LambdaSimpleBackend.invoke, dict(default_user_config), os.environ.get("MOTO_PORT")
    LambdaSimpleBackend.invoke = _invoking(function)  # type: ignore[method-assign]
    default_user_config.update({"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}})
    os.environ["MOTO_PORT"] = str(urlsplit(endpoint).port)
    try:
        client = boto3.client("stepfunctions", endpoint_url=endpoint)
        arn = client.create_state_machine(name="bulk", definition=text, roleArn=_ROLE)["stateMachineArn"]
        yield StateMachine(client, arn)
    finally:
        LambdaSimpleBackend.invoke = invoke  # type: ignore[method-assign]
        default_user_config.update(config)  # type: ignore[typeddict-item]
        if port is None:
            del os.environ["MOTO_PORT"]
        else:
            os.environ["MOTO_PORT"] = port


def _invoking(function: Function) -> Callable[..., bytes]:
    """Moto's `invoke`, which calls a function."""

    def invoke(
        _backend: object, _name: str, _qualifier: str | None, body: Any, _headers: Any, answer_headers: dict[str, str]
    ) -> bytes:
        try:
            answer = function(json.loads(body))
        except Exception as error:  # noqa: BLE001 - as Lambda reports whatever the function raises
            answer_headers["x-amz-function-error"] = "Unhandled"
            answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
        return json.dumps(answer).encode()

    return invoke
