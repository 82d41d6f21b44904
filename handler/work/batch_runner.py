"""Works on a batch: reads its file, answers its requests, and writes the output and the error file."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from handler.errors import NoSuchObjectError, ServiceError
from handler.kept.answers import Answer, KeptAnswers
from handler.kept.batches import FINAL, Batch, BatchError, BatchErrors, Batches, RequestCounts, Status, parts_of
from handler.kept.files import FileObject, Files
from handler.loading import ModelLoading
from handler.telemetry import logger
from handler.work.answering import WRITE_SECONDS, LineWorker, envelope, is_success
from handler.work.lines import Line, parse_lines

if TYPE_CHECKING:
    from handler.kept.storage import Storage

_CUT_SHORT: dict[Status, tuple[str, str]] = {
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was answered."),
    "expired": ("batch_expired", "The batch expired before this request was answered."),
}


class BatchRunner:
    """Works on batches with the model that is being loaded, or is already."""

    def __init__(self, loading: ModelLoading, storage: "Storage") -> None:
        self._loading = loading
        self._storage = storage
        self._batches = Batches(storage)
        self._files = Files(storage)

    def run(self, batch_id: str, deadline: float | None) -> bool:
        """Work on a batch until it is finished or time is up.

        Args:
            batch_id: the batch.
            deadline: when to have stopped, on the clock of `time.time()`.

        Returns:
            Whether it is finished; if not, it goes on where this ended.

        Raises:
            NoSuchObjectError: there is no such batch.
            ServiceError: the model or the bucket cannot be had, or nothing at all could be done in the time.
        """
        batch = self._batches.get(batch_id)
        if batch.status in FINAL:
            return True
        lines = self._begin(batch)
        if lines is None:
            return True
        kept = KeptAnswers(self._storage, parts_of(batch_id))

        def goes_on() -> bool:
            self._count(batch_id, len(lines), kept.done)
            return self._ends_as(batch_id) is None

        ends_as = self._ends_as(batch_id)
        if ends_as is None:
            worker = LineWorker(self._loading, kept, _label(batch))
            answered = worker.work(lines, None if deadline is None else deadline - WRITE_SECONDS, goes_on)
            ends_as = "completed" if answered else self._ends_as(batch_id)
            if ends_as is None:
                return False
        self._finish(batch, lines, kept.done, ends_as)
        return True

    def give_up(self, batch_id: str, error: ServiceError) -> None:
        """Close a batch that nobody will work on any more; what was answered of it is not put together.

        Raises:
            NoSuchObjectError: there is no such batch.
        """
        code = error.code or "server_error"
        errors = BatchErrors(data=[BatchError(code=code, message=f"Given up after too many attempts: {error.message}")])
        self._batches.update(batch_id, partial(_failed, errors))

    def _begin(self, batch: Batch) -> list[Line] | None:
        """The batch's requests; None if its file is no good, and the batch has failed."""
        try:
            lines, errors = parse_lines(self._files.content(batch.input_file_id), batch.endpoint)
        except NoSuchObjectError as error:
            errors = [BatchError(code="invalid_input_file", message=error.message, param="input_file_id")]
        if errors:
            self._batches.update(batch.id, partial(_failed, BatchErrors(data=errors)))
            return None
        counts = RequestCounts(total=len(lines))
        begun = partial(_in_status, "validating", lambda now: now.now("in_progress", request_counts=counts))
        self._batches.update(batch.id, begun)
        return lines

    def _ends_as(self, batch_id: str) -> Status | None:
        """How the batch ends before all is done, if it does: asked between parts."""
        batch = self._batches.get(batch_id)
        if batch.status == "cancelling":
            return "cancelled"
        return "expired" if time.time() >= batch.expires_at else None

    def _count(self, batch_id: str, total: int, done: Mapping[int, Answer]) -> None:
        completed = sum(is_success(answer) for answer in done.values())
        counts = RequestCounts(total=total, completed=completed, failed=len(done) - completed)
        self._batches.update(batch_id, lambda now: now.model_copy(update={"request_counts": counts}))

    def _finish(self, batch: Batch, lines: Sequence[Line], done: Mapping[int, Answer], status: Status) -> None:
        """Write the files and close the batch."""
        if status == "completed":
            self._batches.update(batch.id, partial(_in_status, "in_progress", lambda now: now.now("finalizing")))
        output = [done[line.index] for line in lines if line.index in done and is_success(done[line.index])]
        failed = [done[line.index] for line in lines if line.index in done and not is_success(done[line.index])]
        for line in lines:
            if line.index not in done:
                code, message = _CUT_SHORT[status]
                unanswered = {"code": code, "message": message}
                failed.append(envelope(_label(batch), line.index, line.custom_id, None, unanswered))
        changes = {
            "output_file_id": self._write(batch, "output", output),
            "error_file_id": self._write(batch, "errors", failed),
            "request_counts": RequestCounts(total=len(lines), completed=len(output), failed=len(failed)),
        }

        def close(now: Batch) -> Batch:
            if now.status in FINAL:
                return now
            return now.now("cancelled" if now.status == "cancelling" else status, **changes)

        self._batches.update(batch.id, close)
        logger.info("batch finished", batch=batch.id, status=status, completed=len(output), failed=len(failed))

    def _write(self, batch: Batch, kind: str, answers: Sequence[Answer]) -> str | None:
        """A file of answers, its id made of the batch's so that whoever writes it again changes nothing."""
        if not answers:
            return None
        content = "".join(f"{json.dumps(answer)}\n" for answer in answers).encode()
        file_id = f"file-{batch.id.removeprefix('batch_')}-{kind}"
        name = f"{batch.id}_{kind}.jsonl"
        now = int(time.time())
        self._files.create(
            FileObject(id=file_id, bytes=len(content), created_at=now, filename=name, purpose="batch_output"), content
        )
        return file_id


def _label(batch: Batch) -> str:
    return f"batch_req_{batch.id.removeprefix('batch_')}"


def _failed(errors: BatchErrors, batch: Batch) -> Batch:
    """The batch failed for these, unless it has ended otherwise."""
    if batch.status in FINAL:
        return batch
    return batch.now("cancelled" if batch.status == "cancelling" else "failed", errors=errors)


def _in_status(status: Status, change: Callable[[Batch], Batch], batch: Batch) -> Batch:
    """Change a batch only while it is in this status."""
    return change(batch) if batch.status == status else batch
