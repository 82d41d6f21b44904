"""What tests of engines share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def old_objects_left_alone() -> Iterator[None]:
    """As in the service: whoever collects garbage, and continuous batching does when it ends, is done in no time."""
    gc.freeze()
    yield
    gc.unfreeze()
