"""A worker for bulk, its bucket empty for every test."""

from collections.abc import Iterator

import pytest

from tests.functional.bulk.place import Place, running_place


@pytest.fixture
def place(aws: str) -> Iterator[Place]:
    """The worker and its bucket."""
    with running_place() as place:
        yield place
