"""Answers the lines of a file, many at a time, each by the code that serves its route: for batches and for bulk."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice, takewhile
from typing import Any, Final, TypeVar

from handler.api.chat import complete_chat
from handler.api.chat_schemas import ChatAnswer, ChatBody
from handler.api.completion_schemas import CompletionAnswer, CompletionBody
from handler.api.completions import complete
from handler.api.validation import parse_body
from handler.errors import DeadlineExceededError, EngineError, ServiceError
from handler.kept.answers import Answer, KeptAnswers
from handler.loading import ModelLoading
from handler.telemetry import logger
from handler.work.lines import Line

# So many lines are with the engine at once, and so many make a part.
TOGETHER: Final = 16
PART_LINES: Final = 64

# Kept back before the deadline, to write down what was done.
WRITE_SECONDS: Final = 15.0

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def _complete(fields: Any, loading: ModelLoading, deadline: float | None) -> CompletionAnswer:
    body = parse_body(CompletionBody, fields)
    return complete(body, loading.wait(deadline, body.model), deadline)


def _complete_chat(fields: Any, loading: ModelLoading, deadline: float | None) -> ChatAnswer:
    body = parse_body(ChatBody, fields)
    return complete_chat(body, loading.wait(deadline, body.model), deadline)


ROUTES: Final[Mapping[str, Callable[[Any, ModelLoading, float | None], CompletionAnswer | ChatAnswer]]] = {
    "/v1/completions": _complete,
    "/v1/chat/completions": _complete_chat,
}


class LineWorker:
    """Answers lines until all are answered or time is up, with the model that is being loaded, or is already."""

    def __init__(self, loading: ModelLoading, kept: KeptAnswers, label: str) -> None:
        """Go on where whoever was here before has ended.

        Args:
            loading: the model.
            kept: what was answered before, and where answers are kept.
            label: what the ids of the answers begin with.
        """
        self._loading = loading
        self._kept = kept
        self._label = label

    def work(self, lines: Sequence[Line], deadline: float | None, goes_on: Callable[[], bool] = lambda: True) -> bool:
        """Answer what is not answered yet.

        If time is up before a single line is answered, the next call begins with the first of them alone; and if that
        one alone takes all the time, it is answered with an error, so that the others get their turn.

        Args:
            lines: all the lines.
            deadline: when to have stopped, on the clock of `time.time()`.
            goes_on: asked after each part whether to answer the next.

        Returns:
            Whether all lines are answered.

        Raises:
            ServiceError: nothing could be answered, and not for lack of time alone.
        """
        done = self._kept.done
        pending = [line for line in lines if line.index not in done]
        if not pending:
            return True
        began, before = time.time(), len(done)
        self._loading.wait(deadline)  # without a model no line need be tried
        answer = partial(answer_line, self._label, self._loading, deadline)
        if pending[0].index in self._kept.slow:
            alone = pending.pop(0)
            self._kept.keep({alone.index: self._answer_alone(alone, answer, began, deadline)})
        error: ServiceError = DeadlineExceededError("Time was up before the first line.", retry_after=1)
        in_time = takewhile(lambda _: deadline is None or time.time() < deadline, pending)
        with ThreadPoolExecutor(TOGETHER, "line") as pool, closing(_in_order(pool, answer, in_time)) as answers:
            pairs = zip(pending, answers, strict=False)
            while part := list(islice(pairs, PART_LINES)):
                finished = {line.index: answer for line, answer in part if not isinstance(answer, ServiceError)}
                error = next((answer for _, answer in part if isinstance(answer, ServiceError)), error)
                if finished:
                    self._kept.keep(finished)
                if not finished or not goes_on():
                    break
        if pending and len(self._kept.done) == before:
            if not isinstance(error, DeadlineExceededError) or deadline is None or deadline <= began:
                raise error
            self._kept.note_slow(pending[0].index)
        return all(line.index in self._kept.done for line in lines)

    def _answer_alone(
        self, line: Line, answer: Callable[[Line], Answer | ServiceError], began: float, deadline: float | None
    ) -> Answer:
        """Answer a line that has the model for itself, and is given up if the time is too short even so."""
        alone_since = time.time()
        outcome = answer(line)
        if not isinstance(outcome, ServiceError):
            return outcome
        # Where most of the time went into loading the model, it is the model that was slow.
        had_most_of_it = deadline is not None and deadline - alone_since > alone_since - began
        if not isinstance(outcome, DeadlineExceededError) or not had_most_of_it:
            raise outcome
        logger.warning("line given up", label=self._label, line=line.index)
        error = DeadlineExceededError("The request alone takes longer than a worker has time; nothing was kept.")
        return envelope(self._label, line.index, line.custom_id, (error.status, error.body()))


def answer_line(label: str, loading: ModelLoading, deadline: float | None, line: Line) -> Answer | ServiceError:
    """A line of an output or error file, or the error for which the line should be tried again."""
    try:
        answer = ROUTES[line.url](line.body, loading, deadline)
        if any(choice.cut_by for choice in answer.choices):
            return DeadlineExceededError("Time was up before the text was done; nothing was kept.", retry_after=1)
    except ServiceError as error:
        # Overload, a model that cannot be had and time that is up say nothing about the request.
        if error.status in (429, 503, 504):
            return error
        return envelope(label, line.index, line.custom_id, (error.status, error.body()))
    except Exception as error:  # noqa: BLE001 - one line's misfortune is not the others'
        logger.error("line failed", label=label, line=line.index, error=type(error).__name__)
        failure = EngineError(f"The request could not be answered: {type(error).__name__}.")
        return envelope(label, line.index, line.custom_id, (failure.status, failure.body()))
    return envelope(label, line.index, line.custom_id, (200, answer.model_dump()))


def envelope(
    label: str,
    line: int | str,
    custom_id: str | None,
    response: tuple[int, dict[str, Any]] | None,
    error: Mapping[str, str] | None = None,
) -> Answer:
    """A line of an output or error file.

    Args:
        label: what its id begins with.
        line: which line it answers.
        custom_id: what the sender knows that line by, if it could be read.
        response: status and body the request was answered with, if it was.
        error: why it was not.
    """
    request_id = f"{label}_{line}"
    answered = None
    if response is not None:
        status, body = response
        answered = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": request_id, "custom_id": custom_id, "response": answered, "error": error}


def is_success(answer: Answer) -> bool:
    """Whether it belongs into the output file, rather than the error file."""
    return answer["response"] is not None and answer["response"]["status_code"] == 200


def _in_order(
    pool: ThreadPoolExecutor, do: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Generator[_Result, None, None]:
    """Results in the order of their items, of which only so many are begun ahead that nobody waits for work."""
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(do, item))
            if len(waiting) > PART_LINES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
