"""The SDK's clients: one for all, whoever asks first and however many at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import NoRegionError

from handler.aws import dynamodb, dynamodb_soon, forget_clients


def test_who_asks_while_it_is_made_gets_the_same() -> None:
    making = dynamodb_soon()
    with ThreadPoolExecutor(4) as pool:
        clients = list(pool.map(lambda _: dynamodb(), range(8)))
    making.join()
    assert clients == [dynamodb()] * 8


def test_a_new_one_is_made_when_the_old_is_forgotten() -> None:
    old = dynamodb()
    forget_clients()
    assert dynamodb() is not old


def test_what_cannot_be_made_is_left_to_whoever_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    dynamodb_soon().join()  # an exception in a thread would fail the test
    with pytest.raises(NoRegionError):
        dynamodb()
