"""What the service says about itself: JSON lines, and never a prompt or a completion.

On AWS some lines are metrics as well: CloudWatch reads them from the log (embedded metric format), so they cost no
call, no second line and, unlike a collector of metrics, no state that threads would share. A function has a name there
by itself; a container is given one, `SERVICE_NAME`.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from aws_lambda_powertools import Logger

from handler.measures import CompletionMeasures

SERVICE = "gpt2"

NAMESPACE: Final = SERVICE

# A function serves one model, but not the same for ever. The version, of which there are many, is a field of the line.
DIMENSIONS: Final = ("function", "model")

COMPLETION_METRICS: Final = {
    "prompt_tokens": "Count",
    "completion_tokens": "Count",
    "batch_size": "Count",
    "seconds": "Seconds",
    "queue_seconds": "Seconds",
    "time_to_first_token": "Seconds",
    "time_between_tokens": "Seconds",
}

IN_FLIGHT: Final = "requests_in_flight"

logger = Logger(service=SERVICE)


def log_completion(measures: CompletionMeasures) -> None:
    """Say what a request was and how long it took; on AWS as metrics, too. What is not known is left out."""
    known = {name: value for name, value in asdict(measures).items() if value is not None}
    units = {name: unit for name, unit in COMPLETION_METRICS.items() if name in known}
    rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in known.items()}
    logger.info("completion", extra={**rounded, **_as_metrics(units)})


def log_in_flight(requests: int) -> None:
    """Say how many requests a container works on at this moment; on AWS as a metric, too, by which it is scaled."""
    described = _as_metrics({IN_FLIGHT: "Count"}, dimensions=("function",))
    logger.info("in flight", extra={IN_FLIGHT: requests, **described})


def log_forwarded(outcome: str, seconds: float) -> None:
    """Say what came of a request that was sent on to the GPU service; on AWS as a metric, too, of one sample each.

    Args:
        outcome: such as "answered".
        seconds: from when it was sent to its end.
    """
    metric = forwarded_metric(outcome)
    described = _as_metrics({metric: "Seconds"}, dimensions=("function",))
    logger.info("forwarded", extra={"outcome": outcome, metric: round(seconds, 6), **described})


def forwarded_metric(outcome: str) -> str:
    """The metric of requests with this outcome."""
    return f"forwarded_{outcome}"


def log_cold_start(stages: Mapping[str, float], model: str, version: str) -> None:
    """Say how long this process took from its start to its first token; on AWS as metrics, too.

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


def _as_metrics(units: Mapping[str, str], dimensions: Sequence[str] = DIMENSIONS) -> dict[str, Any]:
    """What makes metrics of a line's fields of these names; nothing where no CloudWatch reads the log.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or os.environ.get("SERVICE_NAME")
    if not function:
        return {}
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [dimensions],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
    }
    return {"function": function, "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
