"""Working on batches over S3: each request is answered once, whatever happens on the way."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.errors import DeadlineExceededError
from handler.kept.batches import Batch, Batches
from handler.work.answering import PART_LINES, WRITE_SECONDS
from tests.fake_engine import FakeEngine
from tests.functional.batch_place import (
    CountingEngine,
    Crash,
    Place,
    request,
    requests,
    running_place,
    texts,
)
from tests.services import VOCABULARY


def test_a_poisoned_line_in_the_middle_is_told_of_and_the_others_are_answered(place: Place) -> None:
    bad = [request("bad", max_tokens=-1), request("other", model="gpt-5"), request("long", max_tokens=60)]
    batch_id = place.start("\n".join([request("a"), *bad, request("b")]))
    assert place.runner.run(batch_id, None)

    done = place.batch(batch_id)
    assert (done["status"], done["request_counts"]) == ("completed", {"total": 5, "completed": 2, "failed": 3})
    assert set(texts(place.lines(done["output_file_id"]))) == {"a", "b"}
    errors = {line["custom_id"]: line for line in place.lines(done["error_file_id"])}
    assert {name: (each["response"]["status_code"], each["error"]) for name, each in errors.items()} == {
        "bad": (400, None),
        "other": (404, None),
        "long": (400, None),
    }
    assert errors["bad"]["response"]["body"] == {
        "error": {
            "message": "`max_tokens`: input should be greater than or equal to 0; given: -1.",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "invalid_value",
        }
    }


def test_a_file_that_was_deleted_fails_the_batch(place: Place) -> None:
    batch_id = place.start(requests(1))
    place.client.delete(f"/v1/files/{place.batch(batch_id)['input_file_id']}")
    assert place.runner.run(batch_id, None)
    assert place.batch(batch_id)["errors"]["data"][0]["code"] == "invalid_input_file"


def test_an_engine_that_fails_fails_the_requests_and_not_the_batch(aws: str) -> None:
    engine = FakeEngine(vocabulary_size=VOCABULARY)
    engine.fail_with = RuntimeError("the prompt was: secret")
    with running_place(engine) as place:
        batch_id = place.start(requests(2))
        assert place.runner.run(batch_id, None)
        batch = place.batch(batch_id)
        assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 2, "completed": 0, "failed": 2})
        [first, _] = place.lines(batch["error_file_id"])
    assert first["response"]["status_code"] == 500
    assert "secret" not in json.dumps(first)


def test_what_is_done_when_a_worker_dies_is_not_done_again(aws: str) -> None:
    engine = CountingEngine(vocabulary_size=VOCABULARY)
    with running_place(engine) as place:
        batch_id = place.start(requests(2 * PART_LINES + 5))
        parts = iter([1])

        def die_at_the_second() -> None:
            if next(parts, None) is None:
                raise Crash

        place.storage.before_part = die_at_the_second
        with pytest.raises(Crash):
            place.runner.run(batch_id, None)
        place.storage.before_part = None
        batch = place.batch(batch_id)
        assert (batch["status"], batch["request_counts"]["completed"]) == ("in_progress", PART_LINES)

        before = engine.prompts
        assert place.runner.run(batch_id, None)
        assert engine.prompts - before == PART_LINES + 5
        assert len(texts(place.lines(place.batch(batch_id)["output_file_id"]))) == 2 * PART_LINES + 5
        # And another delivery does nothing at all.
        before = engine.prompts
        assert place.runner.run(batch_id, None)
        assert engine.prompts == before


def test_near_the_deadline_a_batch_stops_and_goes_on_later(place: Place) -> None:
    batch_id = place.start(requests(3 * PART_LINES))
    work_until = time.time() + 5
    # Keeping the first part takes all the time there is, in which the lines of the second are answered.
    place.storage.before_part = lambda: time.sleep(max(0.0, work_until - time.time()))
    assert not place.runner.run(batch_id, work_until + WRITE_SECONDS)
    place.storage.before_part = None
    batch = place.batch(batch_id)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("in_progress", 2 * PART_LINES)

    assert place.runner.run(batch_id, None)
    assert place.batch(batch_id)["request_counts"]["completed"] == 3 * PART_LINES


def test_with_no_time_at_all_nothing_is_done_and_the_delivery_fails(place: Place) -> None:
    batch_id = place.start(requests(1))
    with pytest.raises(DeadlineExceededError):
        place.runner.run(batch_id, time.time() + WRITE_SECONDS - 1)
    assert place.batch(batch_id)["request_counts"] == {"total": 1, "completed": 0, "failed": 0}
    assert place.runner.run(batch_id, None)
    assert place.batch(batch_id)["status"] == "completed"


def test_two_workers_on_one_batch_write_one_output(place: Place) -> None:
    batch_id = place.start(requests(PART_LINES + 20, temperature=2))
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda _: place.runner.run(batch_id, None), range(2)))

    batch = place.batch(batch_id)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", PART_LINES + 20)
    assert len(texts(place.lines(batch["output_file_id"]))) == PART_LINES + 20


def test_cancelled_half_way_what_is_done_is_kept_and_the_rest_told(place: Place) -> None:
    batch_id = place.start(requests(2 * PART_LINES))

    def cancel() -> None:
        answer = place.client.post(f"/v1/batches/{batch_id}/cancel")
        assert answer.json()["status"] == "cancelling"

    place.storage.before_part = cancel
    assert place.runner.run(batch_id, None)

    batch = place.batch(batch_id)
    assert (batch["status"], batch["request_counts"]) == (
        "cancelled",
        {"total": 2 * PART_LINES, "completed": PART_LINES, "failed": PART_LINES},
    )
    assert batch["cancelled_at"] >= batch["cancelling_at"]
    assert set(texts(place.lines(batch["output_file_id"]))) == {f"r{i}" for i in range(PART_LINES)}
    errors = place.lines(batch["error_file_id"])
    assert [line["custom_id"] for line in errors] == [f"r{i}" for i in range(PART_LINES, 2 * PART_LINES)]
    assert {json.dumps([line["response"], line["error"]]) for line in errors} == {
        json.dumps(
            [
                None,
                {
                    "code": "batch_cancelled",
                    "message": "The batch was cancelled before this request was answered.",
                },
            ]
        )
    }
    refused = place.client.post(f"/v1/batches/{batch_id}/cancel")
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        400,
        "`batch_id`: a batch can be cancelled until it is done; this one is cancelled.",
    )


@pytest.mark.parametrize("data", [requests(2), ""], ids=["good file", "empty file"])
def test_a_batch_cancelled_before_it_began_is_cancelled(place: Place, data: str) -> None:
    batch_id = place.start(data)
    place.client.post(f"/v1/batches/{batch_id}/cancel")
    assert place.runner.run(batch_id, None)
    assert place.batch(batch_id)["status"] == "cancelled"


def test_a_batch_whose_day_is_over_expires(place: Place) -> None:
    batch_id = place.start(requests(2))
    Batches(place.storage).update(batch_id, lambda now: now.model_copy(update={"expires_at": int(time.time())}))
    assert place.runner.run(batch_id, None)

    batch = place.batch(batch_id)
    assert (batch["status"], batch["output_file_id"]) == ("expired", None)
    assert [line["error"]["code"] for line in place.lines(batch["error_file_id"])] == ["batch_expired"] * 2


def test_states_are_changed_one_after_the_other(place: Place) -> None:
    """Twelve changes by four at once, each of what the one before left."""
    batch_id = place.start(requests(1))
    batches = Batches(place.storage)

    def count(now: Batch) -> Batch:
        counts = now.request_counts
        return now.model_copy(update={"request_counts": counts.model_copy(update={"failed": counts.failed + 1})})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: batches.update(batch_id, count), range(12)))
    assert batches.get(batch_id).request_counts.failed == 12
