"""Batches from upload to output, over S3: each request answered once, whatever happens on the way."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from handler.app import create_app
from handler.errors import DeadlineExceededError, NoSuchObjectError
from handler.inference.scheduler import Scheduler
from handler.kept.batches import Batch, Batches
from handler.kept.storage import ATTEMPTS, Storage
from handler.loading import ModelLoading
from handler.registry.s3 import s3_client
from handler.service import TextService
from handler.work.answering import PART_LINES, WRITE_SECONDS
from handler.work.batch_runner import BatchRunner
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.services import MANIFEST, VOCABULARY, make_settings

TOKENIZER = tiny_tokenizer(VOCABULARY)


class WatchedStorage(Storage):
    """Says when a part is about to be kept."""

    before_part: Callable[[], None] | None = None

    def __init__(self, client: Any, bucket: str) -> None:
        super().__init__(client, bucket)
        self.before: dict[str, BaseException] = {}  # what happens before objects are created, by what is in their key

    def create(self, key: str, data: bytes) -> bool:
        if self.before_part is not None and "/parts/" in key:
            self.before_part()
        for part_of_key, end in self.before.items():
            if part_of_key in key:
                raise end
        return super().create(key, data)


class CountingEngine(FakeEngine):
    """Counts the prompts that were begun."""

    prompts = 0

    def acquire(self) -> int | None:
        slot = super().acquire()
        self.prompts += slot is not None
        return slot


class Crash(BaseException):
    """The end of a process."""


class Place:
    """An application, and a worker that a test runs when it wants to."""

    def __init__(self, storage: WatchedStorage, scheduler: Scheduler) -> None:
        settings = make_settings(results_bucket=storage.bucket)
        service = TextService(MANIFEST, tiny_tokenizer(VOCABULARY), scheduler, settings)
        loading = ModelLoading(lambda: service)
        loading.wait(None)
        self.storage = storage
        self.loading = loading
        self.client = TestClient(create_app(settings, loading), raise_server_exceptions=False, follow_redirects=False)
        self.runner = BatchRunner(loading, storage)

    def upload(self, data: bytes | str, **fields: str) -> Any:
        content = data if isinstance(data, bytes) else data.encode()
        files = {"file": ("requests.jsonl", content)}
        return self.client.post("/v1/files", files=files, data={"purpose": "batch"} | fields).json()

    def start(self, data: bytes | str, **fields: Any) -> str:
        body = {"input_file_id": self.upload(data)["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
        answer = self.client.post("/v1/batches", json=body | fields)
        assert answer.status_code == 200, answer.text
        batch_id: str = answer.json()["id"]
        return batch_id

    def batch(self, batch_id: str) -> dict[str, Any]:
        batch: dict[str, Any] = self.client.get(f"/v1/batches/{batch_id}").json()
        return batch

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        return [json.loads(line) for line in self.client.get(f"/v1/files/{file_id}/content").text.splitlines()]


@contextmanager
def running_place(engine: FakeEngine | None = None) -> Iterator[Place]:
    s3_client().create_bucket(Bucket="results")
    scheduler = Scheduler(engine or FakeEngine(vocabulary_size=VOCABULARY))
    try:
        yield Place(WatchedStorage(s3_client(ATTEMPTS), "results"), scheduler)
    finally:
        scheduler.close()


@pytest.fixture
def place(aws: str) -> Iterator[Place]:
    with running_place() as place:
        yield place


def request(custom_id: str, **body: Any) -> str:
    filled = {"prompt": f"She {custom_id}", "max_tokens": 3, "temperature": 0} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": filled})


def requests(count: int, **body: Any) -> str:
    return "\n".join(request(f"r{i}", **body) for i in range(count))


def greedy(prompt: str, tokens: int) -> str:
    return TOKENIZER.decode(continuation(TOKENIZER.encode(prompt), tokens, VOCABULARY))


def texts(lines: list[dict[str, Any]]) -> dict[str, str]:
    return {line["custom_id"]: line["response"]["body"]["choices"][0]["text"] for line in lines}


def test_a_batch_from_upload_to_output(place: Place) -> None:
    before = int(time.time())
    batch_id = place.start(requests(3), metadata={"book": "one"})
    begun = place.batch(batch_id)
    assert begun["created_at"] in range(before, before + 60)
    assert begun == {
        "id": batch_id,
        "object": "batch",
        "endpoint": "/v1/completions",
        "model": None,
        "errors": None,
        "input_file_id": begun["input_file_id"],
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": begun["created_at"],
        "in_progress_at": None,
        "expires_at": begun["created_at"] + 24 * 3600,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": {"book": "one"},
    }

    assert place.runner.run(batch_id, None)
    done = place.batch(batch_id)
    times = {name: done[name] for name in ("in_progress_at", "finalizing_at", "completed_at")}
    assert all(before <= moment < before + 60 for moment in times.values())
    assert done == begun | times | {
        "status": "completed",
        "output_file_id": done["output_file_id"],
        "request_counts": {"total": 3, "completed": 3, "failed": 0},
    }
    output = place.lines(done["output_file_id"])
    assert texts(output) == {f"r{i}": greedy(f"She r{i}", 3) for i in range(3)}
    suffix = batch_id.removeprefix("batch_")
    for i, line in enumerate(output):
        request_id = f"batch_req_{suffix}_{i}"
        assert (line["id"], line["error"]) == (request_id, None)
        assert {key: line["response"][key] for key in ("status_code", "request_id")} == {
            "status_code": 200,
            "request_id": request_id,
        }
    file = place.client.get(f"/v1/files/{done['output_file_id']}").json()
    assert (file["purpose"], file["filename"]) == ("batch_output", f"{batch_id}_output.jsonl")
    assert file["bytes"] == len(place.client.get(f"/v1/files/{file['id']}/content").content)


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


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("", {"code": "empty_file", "message": "The file holds no request.", "param": None, "line": None}),
        (
            f"{requests(2)}\n{request('torn')[:-5]}",
            {"code": "invalid_json_line", "message": "The line is not valid JSON.", "param": None, "line": 3},
        ),
    ],
    ids=["empty", "torn last line"],
)
def test_a_file_that_is_no_good_fails_the_batch_with_the_line(place: Place, data: str, error: dict[str, Any]) -> None:
    batch_id = place.start(data)
    assert place.runner.run(batch_id, None)

    batch = place.batch(batch_id)
    assert (batch["status"], batch["errors"]) == ("failed", {"object": "list", "data": [error]})
    assert batch["failed_at"] is not None
    assert batch["output_file_id"] is batch["error_file_id"] is None


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


def test_a_batch_of_chats(place: Place) -> None:
    chat = {"messages": [{"role": "user", "content": "She"}], "max_tokens": 3}
    line = {"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": chat}
    stream = line | {"custom_id": "stream", "body": chat | {"stream": True}}
    batch_id = place.start("\n".join(map(json.dumps, (line, stream))), endpoint="/v1/chat/completions")
    assert place.runner.run(batch_id, None)
    batch = place.batch(batch_id)
    [answer] = place.lines(batch["output_file_id"])
    direct = place.client.post("/v1/chat/completions", json=chat | {"temperature": 0}).json()
    assert set(answer["response"]["body"]) == set(direct)
    assert answer["response"]["body"]["object"] == "chat.completion"
    [error] = place.lines(batch["error_file_id"])
    assert error["response"]["body"]["error"]["param"] == "stream"


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


def test_unknown_batches_and_files(place: Place) -> None:
    for path in ("/v1/batches/batch_0", "/v1/files/file-0", "/v1/files/file-0/content", f"/v1/files/{'x' * 2000}"):
        answer = place.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path
    assert place.client.post("/v1/batches/batch_0/cancel").status_code == 404
    assert place.client.delete("/v1/files/file-0").status_code == 404
    with pytest.raises(NoSuchObjectError):
        place.runner.run("batch_0", None)


def test_batches_are_listed_newest_first_and_page_by_page(place: Place) -> None:
    file_id = place.upload(requests(1))["id"]
    body = {"input_file_id": file_id, "endpoint": "/v1/completions", "completion_window": "24h"}
    ids = []
    for _ in range(5):
        ids.append(place.client.post("/v1/batches", json=body).json()["id"])
        time.sleep(0.002)  # ids made in the same millisecond have no order
    place.runner.run(ids[1], None)
    pages = [place.client.get("/v1/batches", params={"limit": 2}).json()]
    while pages[-1]["has_more"]:
        pages.append(place.client.get("/v1/batches", params={"limit": 2, "after": pages[-1]["last_id"]}).json())

    assert [[batch["id"] for batch in page["data"]] for page in pages] == [ids[:2:-1], [ids[2], ids[1]], [ids[0]]]
    assert [(page["first_id"], page["last_id"]) for page in pages] == [
        (ids[4], ids[3]),
        (ids[2], ids[1]),
        (ids[0], ids[0]),
    ]
    assert [batch["status"] for batch in pages[1]["data"]] == ["validating", "completed"]
    empty = place.client.get("/v1/batches", params={"after": ids[0]}).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"endpoint": "/v1/embeddings"}, "`endpoint`: input should be '/v1/completions' or '/v1/chat/completions'"),
        ({"completion_window": "1h"}, "`completion_window`: input should be '24h'"),
        ({"colour": 1}, "Unknown field: `colour`."),
        ({"metadata": {"a" * 65: "b"}}, "string should have at most 64 characters"),
        ({"metadata": {str(i): "b" for i in range(17)}}, "at most 16 items"),
        ({"metadata": {"a": "b" * 513}}, "`metadata[a]`: string should have at most 512 characters"),
        ({"input_file_id": None}, "`input_file_id`: input should be a valid string; given: null."),
    ],
)
def test_a_batch_that_cannot_be_is_refused(place: Place, change: dict[str, Any], message: str) -> None:
    body = {"input_file_id": "file-0", "endpoint": "/v1/completions", "completion_window": "24h"}
    answer = place.client.post("/v1/batches", json=body | change)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_an_output_is_no_input(place: Place) -> None:
    batch_id = place.start(requests(1))
    place.runner.run(batch_id, None)
    body = {"endpoint": "/v1/completions", "completion_window": "24h"}
    answer = place.client.post("/v1/batches", json=body | {"input_file_id": place.batch(batch_id)["output_file_id"]})
    assert answer.json()["error"]["message"] == "`input_file_id` must be a file whose purpose is batch."
