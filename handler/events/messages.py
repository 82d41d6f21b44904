"""Requests that nobody waits for: answered together, each one once, each result kept in the results bucket.

Every message of a batch is submitted on a thread of its own, so that the scheduler decodes all of them as one ragged
batch, each with its own parameters.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from handler.api.completion_schemas import CompletionBody
from handler.api.completions import complete
from handler.api.strict_json import read_json
from handler.api.validation import parse_body
from handler.deadline import LambdaContext, deadline_of
from handler.errors import DeadlineExceededError, EngineError, ServiceError
from handler.events.sending import Sender
from handler.kept.results import RequestKey, Response, Results, request_key
from handler.loading import ModelLoading
from handler.telemetry import logger

# What it takes, at worst, to write the results after the last token: S3 may have to be asked several times.
WRITE_SECONDS = 10.0

# SQS and EventBridge take at least 256 KiB, attributes and all; a larger response is fetched from the bucket.
LARGEST_REPLY = 200_000

EVENT_SOURCE = "gpt2"
EVENT_TYPE = "Completion Finished"

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it was delivered.

    Attributes:
        source: where from; the results of each source lie in a folder of their own.
        text: a completions body if it begins with `{`, else a prompt.
        request_id: the sender's own id for it, if any.
        reply_queue: the ARN of a queue that the result is sent to, if any.
        reply_bus: the name or ARN of an event bus that the result is sent to, if any.
    """

    source: str
    text: str
    request_id: str | None = None
    reply_queue: str | None = None
    reply_bus: str | None = None


class MessageWorker:
    """Answers messages with the model that is being loaded, or is already."""

    def __init__(self, loading: ModelLoading, sender: Sender, results_bucket: str) -> None:
        self._loading = loading
        self._sender = sender
        self._bucket = results_bucket

    def answer(self, messages: Sequence[Message], context: LambdaContext) -> list[ServiceError | None]:
        """Answer all messages together.

        Returns:
            For each message None, if its result is kept and sent where it asked for, or else the error. One that ran
            into the deadline is an error and leaves nothing behind: half an answer would stand for ever. A reply is
            sent at every delivery, for the one before may have ended before it was sent.

        Raises:
            StorageUnavailableError: there is no bucket to keep results in.
        """
        results = self._results
        time_up = deadline_of({}, context)
        deadline = None if time_up is None else time_up - WRITE_SECONDS
        keys = [attempt(partial(request_key, each.source, each.text, each.request_id)) for each in messages]
        # The same request twice in a batch is one request.
        distinct = {key: each for key, each in zip(keys, messages, strict=True) if isinstance(key, RequestKey)}
        makers = [partial(results.once, key, partial(self._complete, each, deadline)) for key, each in distinct.items()]
        with ThreadPoolExecutor(max(1, len(makers)), "message") as pool:
            responses = dict(zip(distinct, pool.map(attempt, makers), strict=True))
        outcomes: list[ServiceError | None] = []
        for key, message in zip(keys, messages, strict=True):
            response = responses[key] if isinstance(key, RequestKey) else key
            if isinstance(key, RequestKey) and not isinstance(response, ServiceError):
                response = attempt(partial(self._reply, message, key, response))
            outcomes.append(response if isinstance(response, ServiceError) else None)
        return outcomes

    @cached_property
    def _results(self) -> Results:
        from handler.kept.storage import storage_of  # noqa: PLC0415 - boto3 takes 0.2 s, and HTTP does without it

        return Results(storage_of(self._bucket))

    def _complete(self, message: Message, deadline: float | None) -> Response:
        body = parse_message(message.text)
        answer = complete(body, self._loading.wait(deadline, body.model), deadline)
        if any(choice.cut_by for choice in answer.choices):
            raise DeadlineExceededError("Time was up before the text was done; nothing was kept.", retry_after=1)
        return answer.model_dump()

    def _reply(self, message: Message, key: RequestKey, response: Response) -> None:
        if message.reply_queue is None and message.reply_bus is None:
            return
        fits = len(json.dumps(response)) <= LARGEST_REPLY
        reply = json.dumps(
            {
                "request_id": key.id,
                "bucket": self._bucket,
                "key": key.path,
                "response": response if fits else None,
            }
        )
        if message.reply_queue is not None:
            self._sender.to_queue(message.reply_queue, reply)
        if message.reply_bus is not None:
            self._sender.to_bus(message.reply_bus, EVENT_SOURCE, EVENT_TYPE, reply)


def parse_message(text: str) -> CompletionBody:
    """A completions body if the text begins with `{`; anything else is a prompt.

    Raises:
        InvalidRequestError: says what is wrong.
    """
    if not text.lstrip().startswith("{"):
        return parse_body(CompletionBody, {"prompt": text})
    return parse_body(CompletionBody, read_json(text.encode("utf-8", "surrogatepass"), "message"))


def attempt(do: Callable[[], _Result]) -> _Result | ServiceError:
    """What a call returns or raises: one message's misfortune is not the others'."""
    try:
        return do()
    except ServiceError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a bug, which must not take the other messages along
        # Its own words may quote the message.
        logger.error("message failed", error=type(error).__name__)
        return EngineError(f"The message could not be answered: {type(error).__name__}.")
