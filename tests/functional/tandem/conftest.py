"""A GPU service for all tests of a module; each finds it well."""

from collections.abc import Iterator

import pytest

from tests.functional.tandem.pair import GpuService, gpu_service


@pytest.fixture(scope="module")
def shared_service() -> Iterator[GpuService]:
    with gpu_service() as service:
        yield service


@pytest.fixture
def service(shared_service: GpuService) -> GpuService:
    shared_service.recover()
    return shared_service
