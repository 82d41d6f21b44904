"""The sums of docs/bulk.md, done once by hand."""

import pytest

from handler.errors import InvalidRequestError
from handler.work.bulk.limits import MOST_RANGES
from lifecycle.bulk_estimate import TIMEOUT_SECONDS, Job, estimate
from tests.infrastructure.stack import stacks


def test_ten_million_prompts() -> None:
    """2.5 GB in ranges of 256 KiB are 9,537; 10 million times 64 tokens at 600 a second are 1,066,667 seconds."""
    found = estimate(Job(10_000_000))
    assert (found.ranges, found.turns) == (9_537, 1)
    assert found.range_seconds == pytest.approx(1_066_667 / 9_537 + 2, rel=1e-4)
    # 1,085,741 seconds of 2.9375 GB; 38,148 transitions; 156,250 and 28,611 objects written.
    assert found.dollars == pytest.approx({"Lambda": 53.16, "Step Functions": 0.954, "S3": 0.943}, rel=1e-3)
    assert found.minutes(1000) == pytest.approx(10 * found.range_seconds / 60)
    assert found.ranges <= MOST_RANGES


def test_what_takes_longer_than_an_invocation_takes_several() -> None:
    assert estimate(Job(1000, tokens=1024)).turns == 7


def test_what_one_run_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="a file may have at most 41943040000 bytes"):
        estimate(Job(10**9))


def test_the_timeout_is_the_templates() -> None:
    assert stacks()["api-key"].properties("WorkerFunction")["Timeout"] == TIMEOUT_SECONDS
