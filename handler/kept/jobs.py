"""Jobs: single requests that the client does not wait for, in the results bucket.

A job is an object that is created once, which is what starts it; its result lies where those of events lie.
"""

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from handler.errors import NoSuchObjectError, RequestIdReusedError
from handler.kept.files import is_id
from handler.kept.results import RequestKey, Response, request_key

if TYPE_CHECKING:
    from handler.kept.storage import Storage

# An object here starts a job: the worker hears of it.
REQUESTED = "jobs/requested/"


class JobRequest(BaseModel):
    """What was asked for, and when (seconds since 1970)."""

    id: str
    created_at: int
    body: dict[str, Any]

    @property
    def key(self) -> RequestKey:
        """Where its result lies, and what it is a result of."""
        return request_key("jobs", json.dumps(self.body, sort_keys=True), self.id)


class JobResponse(BaseModel):
    """What the request would have been answered with, had the client waited."""

    status_code: int
    body: dict[str, Any]


class Job(BaseModel):
    """A request that nobody waits for; times are in seconds since 1970."""

    id: str
    object: Literal["job"] = "job"
    endpoint: Literal["/v1/completions"] = "/v1/completions"
    status: Literal["queued", "completed", "failed"]
    created_at: int
    response: JobResponse | None = None


class Jobs:
    """The jobs of one bucket. Every method raises StorageUnavailableError when S3 does not do as it is asked."""

    def __init__(self, storage: "Storage") -> None:
        self.storage = storage

    def create(self, request: JobRequest) -> Job:
        """Keep a request, and with that start it; one that is there under its id is taken up again.

        Raises:
            RequestIdReusedError: what is there asks for something else.
        """
        # By json, which can write half a surrogate pair, as it may stand in a field that nobody looks at.
        if self.storage.create(f"{REQUESTED}{request.id}.json", json.dumps(request.model_dump()).encode()):
            return Job(id=request.id, status="queued", created_at=request.created_at)
        earlier = self.request(request.id)
        if earlier.body != request.body:
            raise RequestIdReusedError("`Idempotency-Key` has been used for a request that asked something else.")
        return self.get(request.id)

    def request(self, job_id: str) -> JobRequest:
        """What a job was asked for.

        Raises:
            NoSuchObjectError: there is no such job.
        """
        data = self.storage.read(f"{REQUESTED}{job_id}.json") if is_id(job_id) else None
        if data is None:
            raise NoSuchObjectError("There is no such job.", param="job_id")
        return JobRequest.model_validate(json.loads(data))

    def get(self, job_id: str) -> Job:
        """A job as it is now.

        Raises:
            NoSuchObjectError: there is no such job.
        """
        request = self.request(job_id)
        data = self.storage.read(request.key.path)
        return job_of(request, None if data is None else json.loads(data)["response"])


def job_of(request: JobRequest, response: Response | None) -> Job:
    """A job, from what was asked and what was answered, if it was."""
    if response is None:
        return Job(id=request.id, status="queued", created_at=request.created_at)
    answer = JobResponse.model_validate(response)
    status: Literal["completed", "failed"] = "completed" if answer.status_code == 200 else "failed"
    return Job(id=request.id, status=status, created_at=request.created_at, response=answer)
