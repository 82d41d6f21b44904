"""What the service says about itself: one JSON line a request, and never a prompt or a completion."""

from aws_lambda_powertools import Logger

logger = Logger(service="gpt2")
