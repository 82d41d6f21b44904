"""Works on batches and jobs in this process, where there is no worker that hears of them: under uvicorn."""

import threading
import time
from collections.abc import Callable
from functools import partial

from handler.errors import EngineError, ServiceError
from handler.loading import RETRY_SECONDS, ModelLoading
from handler.telemetry import logger

# How often anything is worked on, here and by a queue's worker, before it has failed. While the bucket or the model
# cannot be had, nothing was begun.
ATTEMPTS = 5
_NOT_BEGUN = (429, 503)


class Background:
    """Starts threads that end when what they were started for is done, or with the process."""

    def __init__(self, loading: ModelLoading, results_bucket: str, *, pause: float = RETRY_SECONDS) -> None:
        """Nothing is started yet.

        Args:
            loading: the model.
            results_bucket: where batches and jobs are kept.
            pause: seconds between attempts.
        """
        self._loading = loading
        self._bucket = results_bucket
        self._pause = pause

    def start_batch(self, batch_id: str) -> None:
        """Work on a batch."""
        from handler.kept.storage import storage_of  # noqa: PLC0415
        from handler.work.batch_runner import BatchRunner  # noqa: PLC0415 - a function never needs it on this way

        runner = BatchRunner(self._loading, storage_of(self._bucket))
        self._start(batch_id, partial(runner.run, batch_id, None), partial(runner.give_up, batch_id))

    def start_job(self, job_id: str) -> None:
        """Answer a job."""
        from handler.kept.storage import storage_of  # noqa: PLC0415
        from handler.work.job_runner import JobRunner  # noqa: PLC0415 - likewise

        runner = JobRunner(self._loading, storage_of(self._bucket))
        self._start(job_id, lambda: runner.run(job_id, None).status != "queued", partial(runner.give_up, job_id))

    def _start(self, name: str, attempt: Callable[[], bool], give_up: Callable[[ServiceError], object]) -> None:
        def run() -> None:
            failures = 0
            while True:
                try:
                    if attempt():
                        return
                except Exception as error:  # noqa: BLE001 - whoever asks for the batch or job hears of it
                    failure = _failure(name, error)
                    failures += failure.status not in _NOT_BEGUN
                    if failure.is_final or failures == ATTEMPTS:
                        break
                time.sleep(self._pause)
            try:
                give_up(failure)
            except ServiceError as error:
                _failure(name, error)

        threading.Thread(target=run, name=name, daemon=True).start()


def _failure(name: str, error: Exception) -> ServiceError:
    """What went wrong, for whoever asks, and said in the log."""
    if not isinstance(error, ServiceError):
        # A bug, whose own words may quote what was asked.
        error = EngineError(f"The request could not be answered: {type(error).__name__}.")
    logger.error("not finished", of=name, code=error.code, reason=error.message)
    return error
