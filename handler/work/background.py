"""Works on batches and jobs in this process, where there is no worker that hears of them: under uvicorn."""

import threading
import time
from collections.abc import Callable
from functools import partial

from handler.errors import ServiceError
from handler.loading import RETRY_SECONDS, ModelLoading
from handler.telemetry import logger


class Background:
    """Starts threads that end when what they were started for is done, or with the process."""

    def __init__(self, loading: ModelLoading, results_bucket: str) -> None:
        self._loading = loading
        self._bucket = results_bucket

    def start_batch(self, batch_id: str) -> None:
        """Work on a batch."""
        from handler.kept.storage import storage_of  # noqa: PLC0415
        from handler.work.batch_runner import BatchRunner  # noqa: PLC0415 - a function never needs it on this way

        _start(batch_id, partial(BatchRunner(self._loading, storage_of(self._bucket)).run, batch_id, None))

    def start_job(self, job_id: str) -> None:
        """Answer a job."""
        from handler.kept.storage import storage_of  # noqa: PLC0415
        from handler.work.job_runner import JobRunner  # noqa: PLC0415 - likewise

        runner = JobRunner(self._loading, storage_of(self._bucket))
        _start(job_id, lambda: runner.run(job_id, None).status != "queued")


def _start(name: str, attempt: Callable[[], bool]) -> None:
    def run() -> None:
        while True:
            try:
                if attempt():
                    return
            except ServiceError as error:
                logger.error("not finished", of=name, code=error.code, reason=error.message)
            time.sleep(RETRY_SECONDS)

    threading.Thread(target=run, name=name, daemon=True).start()
