"""What every test may rely on: nothing of this machine's AWS setup or of another test's settings reaches it."""

import gc
import io
import os
from collections.abc import Iterator
from functools import lru_cache

import hypothesis
import pytest
from botocore.loaders import JSONFileLoader

from handler.aws import forget_clients
from handler.inference.library import PATH
from handler.settings import settings
from handler.telemetry import logger

# By itself it fails an example that takes longer than 200 ms, which on a machine that others use means nothing.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


def pytest_collection_finish() -> None:
    """What was imported stays for good, as in the service: whoever collects garbage need not look at it again."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without a compiler there are no kernels, and the service runs on torch: what is left is tested all the same."""
    if item.get_closest_marker("native") and not PATH.exists() and "CI" not in os.environ:
        pytest.skip("the kernels are not built: make found no C++ compiler")


@pytest.fixture(scope="session", autouse=True)
def _what_services_can_do_is_read_once() -> Iterator[None]:
    """By itself the SDK reads it, which is megabytes of JSON, for every session anew; tests have hundreds of them."""
    once = lru_cache(maxsize=None)(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _loader, path: once(path))
        yield


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials that open nothing, and no settings but those a test makes."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nothing = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    somebody = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    somewhere = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in {**nothing, **somebody, **somewhere}.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield
    settings.cache_clear()
    forget_clients()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service logs during the test, in place of standard output."""
    handler, stream = logger.registered_handler, io.StringIO()
    before = handler.setStream(stream)  # type: ignore[attr-defined]
    yield stream
    handler.setStream(before)  # type: ignore[attr-defined]
