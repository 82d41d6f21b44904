"""An S3 of moto's in this process, and nothing of whoever runs the tests."""

from collections.abc import Iterator

import pytest
from moto import mock_aws

from handler.registry.s3 import s3_client
from handler.registry.store import ModelStore


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """moto in place of AWS, and an environment with credentials that open nothing."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with mock_aws():
        yield


@pytest.fixture
def store(aws: None) -> ModelStore:
    """An empty models bucket."""
    client = s3_client()
    client.create_bucket(Bucket="models-bucket")
    return ModelStore(client, "models-bucket")
