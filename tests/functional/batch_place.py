"""An application that keeps batches, and a worker of them that a test runs when it wants to."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from handler.app import create_app
from handler.inference.scheduler import Scheduler
from handler.kept.storage import ATTEMPTS, Storage
from handler.loading import ModelLoading
from handler.registry.s3 import s3_client
from handler.service import TextService
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


def request(custom_id: str, **body: Any) -> str:
    filled = {"prompt": f"She {custom_id}", "max_tokens": 3, "temperature": 0} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": filled})


def requests(count: int, **body: Any) -> str:
    return "\n".join(request(f"r{i}", **body) for i in range(count))


def greedy(prompt: str, tokens: int) -> str:
    return TOKENIZER.decode(continuation(TOKENIZER.encode(prompt), tokens, VOCABULARY))


def texts(lines: list[dict[str, Any]]) -> dict[str, str]:
    return {line["custom_id"]: line["response"]["body"]["choices"][0]["text"] for line in lines}
