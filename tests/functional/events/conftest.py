"""moto's server around a worker, empty for every test, and the entry point with the demo model."""

import importlib
import sys
from collections.abc import Iterator

import boto3
import pytest

from handler.registry.s3 import s3_client
from lifecycle.local.cloud import RESULTS_BUCKET, Cloud
from tests.functional.events.golden import Handler
from tests.functional.events.worker import Place


@pytest.fixture
def place(aws: str) -> Place:
    """A queue with its dead letters, a queue for replies and an empty results bucket."""
    s3 = s3_client()
    s3.create_bucket(Bucket=RESULTS_BUCKET)
    return Place(s3, boto3.client("sqs"))


@pytest.fixture(scope="module")
def entry_point(cloud: Cloud) -> Iterator[Handler]:
    """The entry point, imported as Lambda imports it: once, with the function's environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment("demo").items():
            patch.setenv(name, value)
        sys.modules.pop("handler.main", None)
        main = importlib.import_module("handler.main")
        # Loading reads the environment, which tests are about to change.
        main.loading.wait(None)
        yield main.handler
        sys.modules.pop("handler.main")


@pytest.fixture
def handler(entry_point: Handler, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Handler:
    for name, value in cloud.environment("demo").items():
        monkeypatch.setenv(name, value)
    return entry_point
