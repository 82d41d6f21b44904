"""What the service says about itself: JSON lines and metrics, and never a prompt or a completion."""

import os
from collections.abc import Mapping

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

SERVICE = "gpt2"

logger = Logger(service=SERVICE)


def log_cold_start(stages: Mapping[str, float], model: str, version: str) -> None:
    """Say how long this process took from its start to its first token; on Lambda as metrics, too.

    The metrics are lines of the log that CloudWatch reads (embedded metric format), so they cost no call.

    Args:
        stages: seconds from the start of the process to each stage.
        model: the model's name.
        version: its version.
    """
    initialization = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "none")
    logger.info("cold start", model=model, version=version, initialization=initialization, stages=stages)
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        metrics = Metrics(namespace=SERVICE, service=SERVICE)
        metrics.add_dimension("model", model)
        metrics.add_metadata("version", version)
        for stage, seconds in stages.items():
            metrics.add_metric(f"cold_start_{stage}", MetricUnit.Seconds, seconds)
        metrics.flush_metrics()
