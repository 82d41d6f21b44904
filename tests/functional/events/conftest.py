"""moto's server around a worker, empty for every test."""

import boto3
import pytest

from handler.registry.s3 import s3_client
from lifecycle.local.cloud import RESULTS_BUCKET
from tests.functional.events.worker import Place


@pytest.fixture
def place(aws: str) -> Place:
    """A queue with its dead letters, a queue for replies and an empty results bucket."""
    s3 = s3_client()
    s3.create_bucket(Bucket=RESULTS_BUCKET)
    return Place(s3, boto3.client("sqs"))
