"""The step in the middle: answer one range of the input, and write its answers and its errors.

Two workers on one range may both generate, and agree: each writes objects named by what they hold, and the range's
record, which names them and is written once, decides whose count.
"""

import json
from collections.abc import Iterable
from hashlib import sha256

from handler.errors import InvalidRequestError
from handler.kept.answers import Answer, KeptAnswers
from handler.kept.batches import ENDPOINTS
from handler.loading import ModelLoading
from handler.telemetry import logger
from handler.work.answering import WRITE_SECONDS, LineWorker, envelope, is_success
from handler.work.bulk.limits import LARGEST_RANGE
from handler.work.bulk.runs import Range, Record, Run
from handler.work.lines import BadLine, Line, read_lines

# The line across a range's end belongs to it.
_LARGEST_READ = 2 * LARGEST_RANGE


def answer_part(run: Run, part: Range, loading: ModelLoading, deadline: float | None) -> Record | None:
    """Answer a range as far as there is time.

    Args:
        run: the run.
        part: the range.
        loading: the model.
        deadline: when to have stopped, on the clock of `time.time()`.

    Returns:
        What came of it; None if it is not done, and goes on where this ended.

    Raises:
        InvalidRequestError: it is no range of a plan.
        NoSuchObjectError: the input is not there any more.
        ServiceError: the model or the bucket cannot be had, or there was no time at all.
    """
    if not 0 <= part.first < part.end <= part.first + _LARGEST_READ:
        raise InvalidRequestError(
            f"`end` must be more than `first`, by at most {_LARGEST_READ}; given: {part.first} and {part.end}.",
            param="end",
        )
    record = run.record(part.first)
    if record is not None:
        return record
    read = list(read_lines(run.read(part.first, part.end), ENDPOINTS))
    lines = [line for line in read if isinstance(line, Line)]
    label = f"bulk_req_{run.id}_{part.first}"
    kept = KeptAnswers(run.storage, f"{run.part_folder(part.first)}answers/")
    if not LineWorker(loading, kept, label).work(lines, None if deadline is None else deadline - WRITE_SECONDS):
        return None
    answers = [kept.done[line.index] for line in lines]
    output = [answer for answer in answers if is_success(answer)]
    errors = [answer for answer in answers if not is_success(answer)]
    errors += [_refusal(label, part, line) for line in read if isinstance(line, BadLine)]
    output_key, output_bytes = _write(run, part, "output", output)
    errors_key, errors_bytes = _write(run, part, "errors", errors)
    logger.info("range answered", run=run.id, first=part.first, completed=len(output), failed=len(errors))
    return run.keep_record(
        Record(
            first=part.first,
            completed=len(output),
            failed=len(errors),
            output=output_key,
            output_bytes=output_bytes,
            errors=errors_key,
            errors_bytes=errors_bytes,
        )
    )


def _refusal(label: str, part: Range, line: BadLine) -> Answer:
    """The error of a line that is no request: it is found again by the byte at which it begins."""
    start = part.first + line.start
    error = {"code": line.error.code, "message": f"The line at byte {start} of the file: {line.error.message}"}
    return envelope(label, f"byte_{start}", line.custom_id, None, error)


def _write(run: Run, part: Range, kind: str, answers: Iterable[Answer]) -> tuple[str | None, int]:
    """Write some answers, one a line; the key and size of the object, which is none where there are none."""
    content = "".join(f"{json.dumps(answer)}\n" for answer in answers).encode()
    if not content:
        return None, 0
    key = f"{run.part_folder(part.first)}{kind}-{sha256(content).hexdigest()[:16]}.jsonl"
    run.storage.create(key, content)
    return key, len(content)
