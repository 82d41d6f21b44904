"""Files and batches with the official openai client, unchanged; without a worker the server itself works on batches."""

import json
import time
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from lifecycle.local.cloud import LOCAL_KEY
from tests.serving import demo_server


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    """A client of a server with the demo model."""
    with demo_server() as address, OpenAI(base_url=f"{address}/v1", api_key=LOCAL_KEY, max_retries=0) as client:
        yield client


def requests(count: int, **body: object) -> bytes:
    filled = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0} | body
    return "\n".join(
        json.dumps({"custom_id": f"r{i}", "method": "POST", "url": "/v1/completions", "body": filled})
        for i in range(count)
    ).encode()


def finished(client: OpenAI, batch: Batch) -> Batch:
    for _ in range(600):
        batch = client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "cancelled", "expired"):
            return batch
        time.sleep(0.1)
    raise TimeoutError(batch.status)


def test_a_batch_from_upload_to_download(client: OpenAI) -> None:
    file = client.files.create(file=("requests.jsonl", requests(20)), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/completions", completion_window="24h", metadata={"book": "one"}
    )
    assert (batch.status, batch.metadata) == ("validating", {"book": "one"})
    done = finished(client, batch)

    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (20, 20, 0)
    assert done.error_file_id is None
    assert done.output_file_id is not None
    lines = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    alone = client.completions.create(model="demo", prompt="Once upon a time", max_tokens=8, temperature=0)
    assert {line["custom_id"]: line["response"]["body"]["choices"][0]["text"] for line in lines} == {
        f"r{i}": alone.choices[0].text for i in range(20)
    }
    assert batch.id in [each.id for each in client.batches.list()]


def test_a_line_that_fails_is_in_the_error_file(client: OpenAI) -> None:
    file = client.files.create(file=requests(1, temperature=9), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    done = finished(client, batch)

    assert (done.status, done.output_file_id) == ("completed", None)
    assert done.error_file_id is not None
    [line] = client.files.content(done.error_file_id).text.splitlines()
    assert json.loads(line)["response"]["body"]["error"]["param"] == "temperature"


def test_a_file_that_is_no_good_fails_the_batch(client: OpenAI) -> None:
    file = client.files.create(file=b"not json", purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    done = finished(client, batch)

    assert (done.status, done.failed_at is not None) == ("failed", True)
    assert done.errors is not None
    assert done.errors.data is not None
    assert [(error.code, error.line) for error in done.errors.data] == [("invalid_json_line", 1)]


def test_a_batch_is_cancelled(client: OpenAI) -> None:
    file = client.files.create(file=requests(1000, max_tokens=100), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = finished(client, batch)

    assert done.status == "cancelled"
    assert done.request_counts is not None
    assert done.request_counts.completed + done.request_counts.failed == done.request_counts.total == 1000


def test_files_are_kept_listed_and_deleted(client: OpenAI) -> None:
    file = client.files.create(
        file=("a.jsonl", b"\x00\xff"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (file.bytes, file.filename, file.expires_at) == (2, "a.jsonl", file.created_at + 3600)
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == b"\x00\xff"
    # Small pages, so that the client asks for one after the other.
    assert file.id in [each.id for each in client.files.list(limit=2, purpose="batch")]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_file_larger_than_a_body_may_be_comes_in_parts(client: OpenAI) -> None:
    content = b"\n".join(requests(1).replace(b"r0", f"line-{i}".encode()) for i in range(10_000))
    assert len(content) > 1_000_000
    with pytest.raises(openai.APIStatusError, match="/v1/uploads takes larger files, in parts") as caught:
        client.files.create(file=content, purpose="batch")
    assert caught.value.status_code == 413

    upload = client.uploads.upload_file_chunked(
        file=content,
        filename="large.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=900_000,
    )
    assert upload.file is not None
    assert (upload.status, upload.file.bytes) == ("completed", len(content))
    assert client.files.content(upload.file.id).content == content
