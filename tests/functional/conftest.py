"""An S3 of moto's in this process."""

from collections.abc import Iterator

import pytest
from moto import mock_aws

from handler.registry.s3 import s3_client
from handler.registry.store import ModelStore


@pytest.fixture
def aws() -> Iterator[None]:
    """moto in place of AWS."""
    with mock_aws():
        yield


@pytest.fixture
def store(aws: None) -> ModelStore:
    """An empty models bucket."""
    client = s3_client()
    client.create_bucket(Bucket="models-bucket")
    return ModelStore(client, "models-bucket")
