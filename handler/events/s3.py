"""S3: an uploaded file starts a batch, and a batch or job that was created (or goes on) is worked on.

Events come from the bucket itself or through EventBridge, straight or by way of a queue. All that matters lies in the
bucket: an event that comes twice finds the batch there, or its answers.
"""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import unquote_plus

from handler.deadline import LambdaContext, deadline_of
from handler.errors import InvalidRequestError, NoSuchObjectError, ServiceError
from handler.events.adapter import LambdaEvent, has_records_of
from handler.events.keeping import ResultsBucket
from handler.events.messages import EVENT_SOURCE
from handler.events.sending import Sender
from handler.kept.batches import COMPLETION_SECONDS, CONTINUED, CREATED, LARGEST_INPUT, Batch, Batches
from handler.kept.files import FileObject, Files, new_id
from handler.kept.jobs import REQUESTED, Job
from handler.loading import ModelLoading
from handler.work.lines import endpoint_of

INBOX = "inbox/"

SOURCE = "aws:s3"
BUS_SOURCE, CREATED_TYPE = "aws.s3", "Object Created"

# The account's own bus hears of every job that is done.
BUS = "default"
JOB_TYPE = "Job Finished"


@dataclass(frozen=True, slots=True)
class CreatedObject:
    """An object that was created: where, when (seconds since 1970), and what tells this content from another."""

    bucket: str
    key: str
    etag: str
    size: int
    at: float


class S3Adapter:
    """Starts batches, and works on batches and jobs."""

    description = "S3: `Records` with `eventSource` `aws:s3`, or by EventBridge `source` `aws.s3`; an object created"

    def __init__(self, loading: ModelLoading, sender: Sender, results_bucket: str) -> None:
        self._loading = loading
        self._sender = sender
        self._bucket = ResultsBucket(results_bucket)

    def matches(self, event: LambdaEvent) -> bool:
        """Whether the event tells of objects."""
        return has_records_of(event, "eventSource", SOURCE) or is_creation(event)

    def handle(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """The batches and jobs concerned, and whether each is finished.

        Raises:
            ServiceError: something failed; what was done before stands, and a second delivery goes on there.
        """
        try:
            objects = [_by_bus(event)] if is_creation(event) else [_by_bucket(record) for record in event["Records"]]
        except (KeyError, TypeError, AttributeError, ValueError) as fault:
            raise InvalidRequestError(f"The event looks like S3 but lacks a part: {fault}.") from fault
        return {"finished": dict(self._handle(each, context) for each in objects)}

    def give_up(self, event: LambdaEvent, error: ServiceError) -> None:
        """Close the batch or job that an event of EventBridge tells of, because it will not be delivered any more.

        Raises:
            ServiceError: that is not possible either.
        """
        created = _by_bus(event)
        if created.bucket != self._bucket.name:
            return
        if created.key.startswith((CREATED, CONTINUED)):
            from handler.work.batch_runner import BatchRunner  # noqa: PLC0415 - HTTP does without it

            BatchRunner(self._loading, self._bucket.storage).give_up(_batch_of(created.key), error)
        elif created.key.startswith(REQUESTED):
            from handler.work.job_runner import JobRunner  # noqa: PLC0415 - HTTP does without it

            self._tell(JobRunner(self._loading, self._bucket.storage).give_up(_job_of(created.key), error))

    def _handle(self, created: CreatedObject, context: LambdaContext) -> tuple[str, bool]:
        if created.bucket != self._bucket.name:
            raise InvalidRequestError("Only objects of the results bucket, RESULTS_BUCKET, mean something here.")
        if created.key.startswith((CREATED, CONTINUED)):
            batch_id = _batch_of(created.key)
            return batch_id, self._work(batch_id, context)
        if created.key.startswith(REQUESTED):
            job_id = _job_of(created.key)
            return job_id, self._answer(job_id, context)
        if created.key.startswith(INBOX) and created.key.endswith(".jsonl"):
            return self._start(created), False
        raise InvalidRequestError(
            f"Only objects below {INBOX} that end in .jsonl, {CREATED}, {CONTINUED} or {REQUESTED} start work."
        )

    def _work(self, batch_id: str, context: LambdaContext) -> bool:
        """Work on a batch as long as there is time, and have somebody go on if it was not enough."""
        from handler.work.batch_runner import BatchRunner  # noqa: PLC0415 - HTTP does without it

        finished = BatchRunner(self._loading, self._bucket.storage).run(batch_id, deadline_of({}, context))
        if not finished:
            Batches(self._bucket.storage).go_on(batch_id, uuid.uuid4().hex)
        return finished

    def _answer(self, job_id: str, context: LambdaContext) -> bool:
        """Answer a job and tell the bus, at least once."""
        from handler.work.job_runner import JobRunner  # noqa: PLC0415 - HTTP does without it

        self._tell(JobRunner(self._loading, self._bucket.storage).run(job_id, deadline_of({}, context)))
        return True

    def _tell(self, job: Job) -> None:
        detail = {"id": job.id, "status": job.status, "bucket": self._bucket.name, "key": f"results/jobs/{job.id}.json"}
        self._sender.to_bus(BUS, EVENT_SOURCE, JOB_TYPE, json.dumps(detail))

    def _start(self, created: CreatedObject) -> str:
        """Make a file and a batch of an upload; their ids are made of it, so that it starts one batch only."""
        content = self._bucket.storage.read(created.key) if created.size <= LARGEST_INPUT else b""
        if content is None:
            raise NoSuchObjectError(f"{created.key} is not there any more.")
        if max(created.size, len(content)) > LARGEST_INPUT:
            raise InvalidRequestError(f"{created.key} may have at most {LARGEST_INPUT} bytes; given: {created.size}.")
        now = int(time.time())
        rest = sha256(f"{created.key}\n{created.etag}".encode()).hexdigest()[:16]
        file = FileObject(
            id=new_id("file-", created.at, rest),
            bytes=len(content),
            created_at=now,
            filename=created.key.removeprefix(INBOX),
            purpose="batch",
        )
        batch = Batch(
            id=new_id("batch_", created.at, rest),
            endpoint=endpoint_of(content),
            input_file_id=file.id,
            created_at=now,
            expires_at=now + COMPLETION_SECONDS,
            metadata={"uploaded_as": created.key[:512]},
        )
        Files(self._bucket.storage).create(file, content)
        Batches(self._bucket.storage).create(batch)
        return batch.id


def _batch_of(key: str) -> str:
    """The id of the batch that an object starts, or goes on with."""
    return key.removeprefix(CREATED).removeprefix(CONTINUED).partition("/")[0].removesuffix(".json")


def _job_of(key: str) -> str:
    """The id of the job that an object starts."""
    return key.removeprefix(REQUESTED).removesuffix(".json")


def is_creation(event: Mapping[str, Any]) -> bool:
    """Whether an event of EventBridge tells of an object."""
    return event.get("source") == BUS_SOURCE and event.get("detail-type") == CREATED_TYPE


def _by_bus(event: Mapping[str, Any]) -> CreatedObject:
    created = event["detail"]["object"]
    at = datetime.fromisoformat(event["time"]).timestamp()
    # AWS writes "etag" here; its stand-in for tests, as in events of the bucket itself, "eTag".
    etag = created["etag"] if "etag" in created else created["eTag"]
    return CreatedObject(event["detail"]["bucket"]["name"], created["key"], etag, int(created.get("size", 0)), at)


def _by_bucket(record: Mapping[str, Any]) -> CreatedObject:
    created = record["s3"]["object"]
    at = datetime.fromisoformat(record["eventTime"]).timestamp()
    # Here, and not on the bus, keys are encoded as in a form.
    return CreatedObject(
        record["s3"]["bucket"]["name"],
        unquote_plus(created["key"]),
        created["eTag"],
        int(created.get("size", 0)),
        at,
    )
