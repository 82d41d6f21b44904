"""`POST /v1/completions`: from OpenAI's body to the service and back. Direct invocations take the same way."""

import time
import uuid
from collections.abc import Iterator
from typing import Any, TypeVar

from fastapi import APIRouter

from handler.api.completion_schemas import (
    CompletionAnswer,
    CompletionBody,
    CompletionChoice,
    CompletionChunk,
    CompletionChunkChoice,
    Logprobs,
    Usage,
)
from handler.api.dependencies import ClientGone, Deadline, Service, check_model
from handler.api.event_stream import EVENT_STREAM, EventStream
from handler.cancellation import Cancellation
from handler.completion import Choice, Completion, Piece, ScoredToken, TextRequest
from handler.errors import InvalidRequestError
from handler.inference.protocol import SamplingParams
from handler.service import TextService
from handler.stream import TextStream

router = APIRouter(tags=["completions"])

_T = TypeVar("_T")


@router.post("/v1/completions", response_model=CompletionAnswer, responses=EVENT_STREAM)
def create_completion(
    body: CompletionBody, service: Service, deadline: Deadline, client_gone: ClientGone
) -> CompletionAnswer | EventStream:
    """Continue each prompt; with `stream`, in server-sent events that each hold what has become certain."""
    if body.stream:
        return EventStream(stream(body, service, deadline, client_gone), client_gone)
    return complete(body, service, deadline, client_gone)


def complete(
    body: CompletionBody, service: TextService, deadline: float | None, cancellation: Cancellation | None = None
) -> CompletionAnswer:
    """Answer a body in one piece; `cancellation` is how whoever asked gives up, if they can.

    Raises:
        ServiceError: the request cannot be answered; the message says why.
    """
    if body.stream:
        raise InvalidRequestError(
            "`stream` must be false here, where the answer comes in one piece; given: true.", param="stream"
        )
    completion = service.complete(_request(body, service, deadline, cancellation or Cancellation()))
    return CompletionAnswer(
        **_about(service),
        choices=[CompletionChoice(**_choice(choice)) for choice in completion.choices],
        usage=_usage(completion),
    )


def stream(
    body: CompletionBody, service: TextService, deadline: float | None, cancellation: Cancellation
) -> Iterator[str]:
    """Answer a body chunk by chunk, each as JSON.

    Raises:
        ServiceError: the request cannot be answered, or not to its end; the message says why.
    """
    pieces = service.stream(_request(body, service, deadline, cancellation))
    about = _about(service)
    wants_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    # Clients expect every chunk to have the field when they asked for usage, and none when they did not.
    hidden = None if wants_usage else {"usage"}
    for piece in pieces:
        choice = CompletionChunkChoice(**_choice(piece))
        yield CompletionChunk(**about, choices=[choice]).model_dump_json(exclude=hidden)
    if wants_usage:
        yield CompletionChunk(**about, choices=[], usage=_usage(pieces)).model_dump_json()


def _about(service: TextService) -> dict[str, Any]:
    """What every answer, and every chunk of one, begins with."""
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": service.model.name,
        "system_fingerprint": service.fingerprint,
    }


def _usage(answer: Completion | TextStream) -> Usage:
    return Usage(
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        total_tokens=answer.prompt_tokens + answer.completion_tokens,
    )


def _request(
    body: CompletionBody, service: TextService, deadline: float | None, cancellation: Cancellation
) -> TextRequest:
    check_model(body.model, service)
    if body.stream_options is not None and not body.stream:
        raise InvalidRequestError("`stream_options` needs `stream` to be true.", param="stream_options")
    return TextRequest(
        prompts=_prompts(body.prompt),
        n=_or(body.n, 1),
        max_tokens=_or(body.max_tokens, 16),
        sampling=_sampling(body),
        seed=body.seed,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        logprobs=body.logprobs,
        echo=bool(body.echo),
        deadline=deadline,
        cancellation=cancellation,
    )


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _prompts(prompt: str | list[str] | list[int] | list[list[int]] | None) -> list[str | list[int]]:
    """The four forms of `prompt` as a list of prompts."""
    if prompt is None or isinstance(prompt, str):
        return [prompt or ""]
    if isinstance(prompt[0], int):
        return [prompt]
    return list(prompt)


def _sampling(body: CompletionBody) -> SamplingParams:
    return SamplingParams(
        temperature=_or(body.temperature, 1.0),
        top_k=_or(body.top_k, 0),
        top_p=_or(body.top_p, 1.0),
        min_p=_or(body.min_p, 0.0),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
    )


def _choice(choice: Choice | Piece) -> dict[str, Any]:
    late = choice.finish_reason == "deadline"
    return {
        "index": choice.index,
        "text": choice.text,
        "logprobs": None if choice.tokens is None else _logprobs(choice.tokens),
        # Clients know two reasons; the third is told in a field of its own.
        "finish_reason": "length" if late else choice.finish_reason,
        "cut_by": "deadline" if late else None,
    }


def _logprobs(tokens: list[ScoredToken]) -> Logprobs:
    return Logprobs(
        tokens=[token.text for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[token.top for token in tokens],
        text_offset=[token.offset for token in tokens],
    )
