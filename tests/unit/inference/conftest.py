"""A scheduler over an engine whose every token is known in advance."""

from collections.abc import Iterator

import pytest

from handler.inference.scheduler import Scheduler
from tests.fake_engine import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def scheduler(engine: FakeEngine) -> Iterator[Scheduler]:
    scheduler = Scheduler(engine)
    yield scheduler
    scheduler.close()
