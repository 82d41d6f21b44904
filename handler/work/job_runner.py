"""Answers a job, once: a second delivery, or two at the same time, find the first one's result."""

from typing import TYPE_CHECKING

from handler.api.completion_schemas import CompletionBody
from handler.api.completions import complete
from handler.api.validation import parse_body
from handler.errors import DeadlineExceededError, ServiceError
from handler.kept.jobs import Job, Jobs, job_of
from handler.kept.results import Response, Results
from handler.loading import ModelLoading

if TYPE_CHECKING:
    from handler.kept.storage import Storage

# Kept back before the deadline, to write the result.
WRITE_SECONDS = 10.0


class JobRunner:
    """Answers jobs with the model that is being loaded, or is already."""

    def __init__(self, loading: ModelLoading, storage: "Storage") -> None:
        self._loading = loading
        self._jobs = Jobs(storage)
        self._results = Results(storage)

    def run(self, job_id: str, deadline: float | None) -> Job:
        """Answer a job, or find it answered.

        Args:
            job_id: the job.
            deadline: when to have stopped, on the clock of `time.time()`.

        Raises:
            NoSuchObjectError: there is no such job.
            ServiceError: it cannot be answered now, but may be later.
        """
        request = self._jobs.request(job_id)
        until = None if deadline is None else deadline - WRITE_SECONDS
        return job_of(request, self._results.once(request.key, lambda: self._answer(request.body, until)))

    def give_up(self, job_id: str, error: ServiceError) -> Job:
        """Let a job have failed that nobody will work on any more, unless it is answered.

        Raises:
            NoSuchObjectError: there is no such job.
            StorageUnavailableError: the bucket does not answer.
        """
        request = self._jobs.request(job_id)
        failure: Response = {"status_code": error.status, "body": error.body()}
        return job_of(request, self._results.once(request.key, lambda: failure))

    def _answer(self, body: dict[str, object], deadline: float | None) -> Response:
        try:
            parsed = parse_body(CompletionBody, body)
            answer = complete(parsed, self._loading.wait(deadline, parsed.model), deadline)
        except ServiceError as error:
            if error.is_final:
                return {"status_code": error.status, "body": error.body()}
            raise
        if any(choice.cut_by for choice in answer.choices):
            raise DeadlineExceededError("Time was up before the text was done; nothing was kept.", retry_after=1)
        return {"status_code": 200, "body": answer.model_dump()}
