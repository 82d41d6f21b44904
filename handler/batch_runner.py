"""Works on a batch: reads its file, answers its requests many at a time, and writes the output and the error file.

What is done is kept in parts, so that whoever comes next (after a crash, a deadline or a second delivery) does what is
left. Two at once do some requests twice, and agree on what was kept first.
"""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from handler.api.completion_schemas import CompletionAnswer, CompletionBody
from handler.api.completions import complete
from handler.api.validation import parse_body
from handler.batch_lines import Line, parse_lines
from handler.batches import FINAL, Batch, BatchError, BatchErrors, Batches, RequestCounts, Status
from handler.errors import DeadlineExceededError, EngineError, NoSuchObjectError, ServiceError
from handler.files import FileObject, Files
from handler.loading import ModelLoading
from handler.telemetry import logger

if TYPE_CHECKING:
    from handler.storage import Storage

# So many requests are with the engine at once, and so many make a part.
TOGETHER = 16
PART_LINES = 64

# Kept back before the deadline, to write down what was done.
WRITE_SECONDS = 15.0

Answer: TypeAlias = dict[str, Any]


def _complete(fields: Any, loading: ModelLoading, deadline: float | None) -> CompletionAnswer:
    body = parse_body(CompletionBody, fields)
    return complete(body, loading.wait(deadline, body.model), deadline)


_ENDPOINTS: dict[str, Callable[[Any, ModelLoading, float | None], Any]] = {"/v1/completions": _complete}

_CUT_SHORT: dict[Status, tuple[str, str]] = {
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was answered."),
    "expired": ("batch_expired", "The batch expired before this request was answered."),
}


class BatchRunner:
    """Works on batches with the model that is being loaded, or is already."""

    def __init__(self, loading: ModelLoading, storage: "Storage") -> None:
        self._loading = loading
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
        done = self._done(batch_id)
        before = len(done)
        work_until = None if deadline is None else deadline - WRITE_SECONDS
        while (ends_as := self._ends_as(batch_id)) is None and len(done) < len(lines):
            pending = [line for line in lines if line.index not in done][:PART_LINES]
            answers = self._answer(batch, pending, work_until)
            finished = {index: answer for index, answer in answers.items() if isinstance(answer, dict)}
            errors = [error for error in answers.values() if isinstance(error, ServiceError)]
            if errors and not finished and len(done) == before:
                raise errors[0]
            if finished:
                self._keep(batch_id, finished, done)
                self._count(batch_id, len(lines), done)
            if errors:
                return False
        self._finish(batch, lines, done, ends_as or "completed")
        return True

    def _begin(self, batch: Batch) -> list[Line] | None:
        """The batch's requests; None if its file is no good, and the batch has failed."""
        try:
            lines, errors = parse_lines(self._files.content(batch.input_file_id), batch.endpoint)
        except NoSuchObjectError as error:
            errors = [BatchError(code="invalid_input_file", message=error.message, param="input_file_id")]
        if errors:
            listed = BatchErrors(data=errors)

            def fail(now: Batch) -> Batch:
                status: Status = "cancelled" if now.status == "cancelling" else "failed"
                return now if now.status in FINAL else now.now(status, errors=listed)

            self._batches.update(batch.id, fail)
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

    def _answer(self, batch: Batch, lines: Sequence[Line], deadline: float | None) -> dict[int, Answer | ServiceError]:
        """Each line's answer, or the error for which it should be tried again; by the line's index."""
        self._loading.wait(deadline)  # without a model no line need be tried
        with ThreadPoolExecutor(TOGETHER, "line") as pool:
            answers = pool.map(lambda line: _answer_line(batch, line, self._loading, deadline), lines)
            return dict(zip((line.index for line in lines), answers, strict=True))

    def _done(self, batch_id: str) -> dict[int, Answer]:
        """All answers kept so far, by the index of their line; of two for one line the first part's."""
        done: dict[int, Answer] = {}
        for part in self._batches.parts(batch_id):
            for index, answer in json.loads(part).items():
                done.setdefault(int(index), answer)
        return done

    def _keep(self, batch_id: str, finished: dict[int, Answer], done: dict[int, Answer]) -> None:
        """Keep a part, and note in `done` what is done now."""
        if self._batches.keep_part(batch_id, min(finished), json.dumps(finished).encode()):
            done.update(finished)
        else:
            # Somebody else works on the batch as well, and has kept this part first: theirs counts.
            done.update(self._done(batch_id))

    def _count(self, batch_id: str, total: int, done: dict[int, Answer]) -> None:
        completed = sum(_is_success(answer) for answer in done.values())
        counts = RequestCounts(total=total, completed=completed, failed=len(done) - completed)
        self._batches.update(batch_id, lambda now: now.model_copy(update={"request_counts": counts}))

    def _finish(self, batch: Batch, lines: Sequence[Line], done: dict[int, Answer], status: Status) -> None:
        """Write the files and close the batch."""
        if status == "completed":
            self._batches.update(batch.id, partial(_in_status, "in_progress", lambda now: now.now("finalizing")))
        output = [done[line.index] for line in lines if line.index in done and _is_success(done[line.index])]
        failed = [done[line.index] for line in lines if line.index in done and not _is_success(done[line.index])]
        for line in lines:
            if line.index not in done:
                code, message = _CUT_SHORT[status]
                failed.append(_envelope(batch, line, None, {"code": code, "message": message}))
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


def _answer_line(batch: Batch, line: Line, loading: ModelLoading, deadline: float | None) -> Answer | ServiceError:
    try:
        answer = _ENDPOINTS[batch.endpoint](line.body, loading, deadline)
        if any(choice.cut_by for choice in answer.choices):
            return DeadlineExceededError("Time was up before the text was done; nothing was kept.", retry_after=1)
    except ServiceError as error:
        # Overload, a model that cannot be had and time that is up say nothing about the request.
        return error if error.status in (429, 503, 504) else _envelope(batch, line, (error.status, error.body()), None)
    except Exception as error:  # noqa: BLE001 - one line's misfortune is not the others'
        logger.error("line failed", batch=batch.id, line=line.index, error=type(error).__name__)
        failure = EngineError(f"The request could not be answered: {type(error).__name__}.")
        return _envelope(batch, line, (failure.status, failure.body()), None)
    return _envelope(batch, line, (200, answer.model_dump()), None)


def _envelope(
    batch: Batch, line: Line, response: tuple[int, dict[str, Any]] | None, error: dict[str, str] | None
) -> Answer:
    """A line of an output or error file."""
    request_id = f"batch_req_{batch.id.removeprefix('batch_')}_{line.index}"
    answered = None
    if response is not None:
        status, body = response
        answered = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": request_id, "custom_id": line.custom_id, "response": answered, "error": error}


def _is_success(answer: Answer) -> bool:
    return answer["response"] is not None and answer["response"]["status_code"] == 200


def _in_status(status: Status, change: Callable[[Batch], Batch], batch: Batch) -> Batch:
    """Change a batch only while it is in this status."""
    return change(batch) if batch.status == status else batch
