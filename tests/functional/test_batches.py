"""Batches from upload to output, over S3: each request answered once, whatever happens on the way."""

import json
import time
from typing import Any

import pytest

from handler.errors import NoSuchObjectError
from tests.functional.batch_place import (
    Place,
    greedy,
    request,
    requests,
    texts,
)


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


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("", {"code": "empty_file", "message": "The file holds no request.", "param": None, "line": None}),
        (
            f"{requests(2)}\n{request('torn')[:-5]}",
            {
                "code": "invalid_json_line",
                "message": "The line is not valid JSON: Expecting ':' delimiter, at character 127.",
                "param": None,
                "line": 3,
            },
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
