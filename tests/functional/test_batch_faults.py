"""Batches while what they rely on fails: nothing is lost, nothing is answered twice, and nothing goes on for ever."""

import time
from collections.abc import Iterator

import pytest

from handler.errors import StorageUnavailableError
from handler.work.answering import PART_LINES, WRITE_SECONDS
from tests.fake_engine import FakeEngine
from tests.functional.batch_place import CountingEngine, request, requests, running_place, texts
from tests.functional.flaky_s3 import Flaky, flaky_s3
from tests.services import VOCABULARY

SLOW_DOWN = (503, "SlowDown")
FAILED = (501, "InternalError")  # which boto3 does not try again by itself


@pytest.fixture
def flaky(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """The bucket, behind a server that fails when told to."""
    with flaky_s3() as flaky:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", flaky.endpoint)
        yield flaky


def test_a_bucket_that_throttles_and_fails_costs_time_and_nothing_else(flaky: Flaky) -> None:
    with running_place() as place:
        batch_id = place.start(requests(PART_LINES + 6))
        parts = iter([FAILED])

        def fail_once() -> None:
            flaky.failures.extend(parts)

        # The first request is throttled, which boto3 sits out; then a part cannot be kept, which ends the run.
        flaky.failures.append(SLOW_DOWN)
        place.storage.before_part = fail_once
        with pytest.raises(StorageUnavailableError):
            place.runner.run(batch_id, None)
        assert place.runner.run(batch_id, None)
        batch = place.batch(batch_id)
        output = place.lines(batch["output_file_id"])
    assert batch["request_counts"] == {"total": PART_LINES + 6, "completed": PART_LINES + 6, "failed": 0}
    assert len(output) == len(texts(output)) == PART_LINES + 6


def test_a_part_whose_answer_was_lost_on_the_way_is_there(flaky: Flaky) -> None:
    """S3 has kept it, but says so to nobody: the next attempt finds it, and nothing is generated again."""
    engine = CountingEngine(vocabulary_size=VOCABULARY)
    with running_place(engine) as place:
        batch_id = place.start(requests(5))

        def lose_the_answer() -> None:
            place.storage.before_part = None
            flaky.lost_answers = 1
            flaky.failures.append(SLOW_DOWN)

        place.storage.before_part = lose_the_answer
        assert place.runner.run(batch_id, None)
        assert engine.prompts == 5
        assert len(texts(place.lines(place.batch(batch_id)["output_file_id"]))) == 5


def test_a_line_that_alone_takes_too_long_is_given_up_and_the_others_are_not(aws: str) -> None:
    engine = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.03)
    with running_place(engine) as place:
        batch_id = place.start(
            "\n".join([request("a"), request("endless", max_tokens=50), request("b", max_tokens=12)])
        )
        turns = 1
        while not place.runner.run(batch_id, time.time() + WRITE_SECONDS + 0.8):
            turns += 1
            assert turns < 6
        batch = place.batch(batch_id)
        assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 3, "completed": 2, "failed": 1})
        [error] = place.lines(batch["error_file_id"])
    assert (error["custom_id"], error["response"]["status_code"]) == ("endless", 504)
    assert error["response"]["body"]["error"]["message"] == (
        "The request alone takes longer than a worker has time; nothing was kept."
    )
