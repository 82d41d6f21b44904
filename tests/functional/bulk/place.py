"""A worker for bulk over the fake engine, with moto's server for its bucket: real requests over real connections."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from handler.events.bulk import BulkAdapter
from handler.kept.storage import ATTEMPTS, Storage
from handler.loading import ModelLoading
from handler.registry.s3 import s3_client
from handler.service import TextService
from handler.work.bulk.runs import INPUTS, Range, Run
from lifecycle.local.cloud import RESULTS_BUCKET
from tests.fake_engine import FakeEngine
from tests.functional.events.worker import Context, CountingScheduler
from tests.models import tiny_tokenizer
from tests.services import MANIFEST, VOCABULARY, make_settings

NAME = f"{INPUTS}prompts.jsonl"


class Place:
    """A bucket, and a worker whose every token is known in advance."""

    def __init__(self, storage: Storage, scheduler: CountingScheduler) -> None:
        service = TextService(MANIFEST, tiny_tokenizer(VOCABULARY), scheduler, make_settings())
        self.loading = ModelLoading(lambda: service)
        self.loading.wait(None)
        self.storage = storage
        self.scheduler = scheduler
        self.adapter = BulkAdapter(self.loading, RESULTS_BUCKET)

    def step(self, kind: str, milliseconds: int = 300_000, **fields: Any) -> Any:
        """Have the worker take a step, with so much time."""
        return self.adapter.handle({"bulk": kind, **fields}, Context(milliseconds))

    def put(self, data: bytes | str, key: str = NAME) -> Run:
        """Put an input, and return its run."""
        content = data if isinstance(data, bytes) else data.encode()
        self.storage.client.put_object(Bucket=RESULTS_BUCKET, Key=key, Body=content)
        found = self.storage.describe(key)
        assert found is not None
        return Run(self.storage, key, found.etag)

    def answer(self, run: Run, part: Range, milliseconds: int = 300_000) -> Any:
        """Have the worker answer a range."""
        return self.step("part", milliseconds, input=run.source, etag=run.etag, **part.model_dump())

    def join(self, run: Run) -> Any:
        """Have the worker join what there is."""
        return self.step("join", input=run.source, etag=run.etag)

    def lines(self, key: str | None) -> list[dict[str, Any]]:
        """The lines of a file, each as what it holds."""
        data = self.storage.read(key or "")
        assert data is not None
        return [json.loads(line) for line in data.splitlines()]


@contextmanager
def running_place(engine: FakeEngine | None = None) -> Iterator[Place]:
    """A place with an empty bucket."""
    client = s3_client(ATTEMPTS)
    client.create_bucket(Bucket=RESULTS_BUCKET)
    scheduler = CountingScheduler(engine or FakeEngine(vocabulary_size=VOCABULARY))
    try:
        yield Place(Storage(client, RESULTS_BUCKET), scheduler)
    finally:
        scheduler.close()
