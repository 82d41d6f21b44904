"""The entry point of CheckFunction: a new version of the API answers a golden prompt, or nobody else asks it.

CodeDeploy invokes it before it moves any traffic (the AppSpec's hook BeforeAllowTraffic), and waits to be told how it
went. The version is invoked itself, not by its alias: with the model, the settings and the rights it will serve with.
"""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from handler.api.completion_schemas import CompletionAnswer
from handler.errors import InvalidRequestError
from handler.telemetry import logger

# The smallest MaxPromptTokens and MaxTokens that the template allows let it through, whatever the tokenizer.
GOLDEN: Mapping[str, Any] = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}

# The first one may find the model still on its way; three, each given up after ANSWER_SECONDS, fit the timeout.
ATTEMPTS = 3
ANSWER_SECONDS = 90
PAUSE_SECONDS = 5.0


def handler(event: Mapping[str, Any], context: object) -> dict[str, str]:  # noqa: ARG001 - as Lambda calls it
    """Check the version NEW_VERSION (an ARN) and tell the deployment.

    Raises:
        InvalidRequestError: the event names no deployment.
    """
    try:
        deployment = {
            "deploymentId": event["DeploymentId"],
            "lifecycleEventHookExecutionId": event["LifecycleEventHookExecutionId"],
        }
    except KeyError as missing:
        raise InvalidRequestError(f"The event is not CodeDeploy's: it lacks {missing}.") from missing
    patient = Config(read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 1})
    fault = fault_of(boto3.client("lambda", config=patient), os.environ["NEW_VERSION"])
    status = "Succeeded" if fault is None else "Failed"
    boto3.client("codedeploy").put_lifecycle_event_hook_execution_status(**deployment, status=status)
    return {"status": status}


def fault_of(client: Any, version: str, *, pause: float = PAUSE_SECONDS) -> str | None:
    """What is wrong with a version's answer to the golden prompt.

    Args:
        client: a client of Lambda.
        version: the version's ARN.
        pause: seconds between attempts.

    Returns:
        What it was at the last attempt, or None as soon as nothing is.
    """
    fault = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause)
        fault = _ask(client, version)
        logger.info("golden prompt", version=version, attempt=attempt + 1, fault=fault)
        if fault is None:
            break
    return fault


def _ask(client: Any, version: str) -> str | None:
    try:
        answer = client.invoke(FunctionName=version, Payload=json.dumps(GOLDEN))
        payload = answer["Payload"].read()
    except (BotoCoreError, ClientError) as error:
        return f"It cannot be invoked: {error}"
    if "FunctionError" in answer:
        return f"It failed: {payload.decode(errors='replace')}"
    try:
        completion = CompletionAnswer.model_validate_json(payload)
    except ValidationError as error:
        return f"It answered something else: {error.errors(include_input=False, include_url=False)}"
    if [choice.cut_by for choice in completion.choices] != [None]:
        return f"It answered {len(completion.choices)} texts, or not in time."
    return None
