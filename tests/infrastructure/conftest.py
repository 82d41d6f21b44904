"""The stack under test: by default every test sees each of them in turn."""

import pytest

from tests.infrastructure.stack import CHOICES, GPU, Stack, gpu_stacks, name_of, stacks


@pytest.fixture(params=[name_of(choice) for choice in CHOICES])
def stack(request: pytest.FixtureRequest) -> Stack:
    """What CloudFormation would create for one choice of parameters."""
    return stacks()[request.param]


@pytest.fixture(params=GPU)
def gpu_stack(request: pytest.FixtureRequest) -> Stack:
    """What it would create for one choice of a GPU service."""
    return gpu_stacks()[request.param]


@pytest.fixture
def default_stack() -> Stack:
    """What it would create when told nothing."""
    return stacks()["api-key"]


@pytest.fixture
def operated_stack() -> Stack:
    """What it would create for somebody who wants to be told of everything."""
    return stacks()["api-key-gradual-bounded-watched-budget"]
