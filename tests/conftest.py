"""What every test may rely on: nothing of this machine's AWS setup or of another test's settings reaches it."""

import io
import os
from collections.abc import Iterator

import pytest

from handler.settings import settings
from handler.telemetry import logger


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials that open nothing, and no settings but those a test makes."""
    for name in [name for name in os.environ if name.startswith(("AWS_ENDPOINT", "AWS_PROFILE", "AWS_LAMBDA"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service logs during the test, in place of standard output."""
    handler, stream = logger.registered_handler, io.StringIO()
    before = handler.setStream(stream)  # type: ignore[attr-defined]
    yield stream
    handler.setStream(before)  # type: ignore[attr-defined]
