"""What the service says about itself: JSON lines, and never a prompt or a completion.

On Lambda some lines are metrics as well: CloudWatch reads them from the log (embedded metric format), so they cost no
call, no second line and, unlike a collector of metrics, no state that threads would share.
"""

import os
import time
from collections.abc import Mapping
from typing import Any, Final

from aws_lambda_powertools import Logger

SERVICE = "gpt2"

NAMESPACE: Final = SERVICE

# A function serves one model, but not the same for ever. The version, of which there are many, is a field of the line.
DIMENSIONS: Final = ("function", "model")

COMPLETION_METRICS: Final = {
    "prompt_tokens": "Count",
    "completion_tokens": "Count",
    "seconds": "Seconds",
    "time_to_first_token": "Seconds",
}

logger = Logger(service=SERVICE)


def log_completion(model: str, version: str, numbers: Mapping[str, float], **facts: Any) -> None:
    """Say what a request was and how long it took; on Lambda as metrics, too.

    Args:
        model: the model's name.
        version: its version.
        numbers: those of `COMPLETION_METRICS` that are known; `time_to_first_token` is not where no token came.
        facts: what else is worth knowing and is no metric.
    """
    units = {name: unit for name, unit in COMPLETION_METRICS.items() if name in numbers}
    logger.info("completion", extra={"model": model, "version": version, **numbers, **facts, **_as_metrics(units)})


def log_cold_start(stages: Mapping[str, float], model: str, version: str) -> None:
    """Say how long this process took from its start to its first token; on Lambda as metrics, too.

    Args:
        stages: seconds from the start of the process to each stage.
        model: the model's name.
        version: its version.
    """
    initialization = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "none")
    metrics = {cold_start_metric(stage): seconds for stage, seconds in stages.items()}
    described = _as_metrics(dict.fromkeys(metrics, "Seconds"))
    facts = {"model": model, "version": version, "initialization": initialization, "stages": stages}
    logger.info("cold start", extra={**facts, **(metrics | described if described else {})})


def cold_start_metric(stage: str) -> str:
    """The metric of a stage's seconds."""
    return f"cold_start_{stage}"


def _as_metrics(units: Mapping[str, str]) -> dict[str, Any]:
    """What makes metrics of a line's fields of these names; nothing where no CloudWatch reads the log.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if function is None:
        return {}
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [DIMENSIONS],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
    }
    return {"function": function, "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
