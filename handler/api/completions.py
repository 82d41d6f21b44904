"""`POST /v1/completions`: from OpenAI's body to the service and back. Direct invocations take the same way."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Response

from handler.allowance import UNLIMITED, Allowance
from handler.api.answers import about, finish_of, usage_of, written
from handler.api.completion_schemas import (
    CompletionAnswer,
    CompletionBody,
    CompletionChoice,
    CompletionChunk,
    CompletionChunkChoice,
    Logprobs,
)
from handler.api.dependencies import ClientGone, Deadline, Service, Tokens, check_model
from handler.api.event_stream import EVENT_STREAM, EventStream
from handler.api.json_body import JsonRoute
from handler.api.sampling import (
    check_answered_whole,
    check_stream_options,
    given_or,
    sampling_of,
    stops_of,
    wants_usage,
)
from handler.cancellation import Cancellation
from handler.completion import Choice, Piece, ScoredToken, TextRequest
from handler.errors import InvalidRequestError
from handler.service import TextService

router = APIRouter(tags=["completions"], route_class=JsonRoute)

ID = "cmpl"


@router.post("/v1/completions", response_model=CompletionAnswer, responses=EVENT_STREAM)
def create_completion(
    body: CompletionBody, service: Service, deadline: Deadline, client_gone: ClientGone, tokens: Tokens
) -> Response:
    """Continue each prompt; with `stream`, in server-sent events that each hold what has become certain."""
    if body.stream:
        return EventStream(stream(body, service, deadline, client_gone, tokens), client_gone)
    return written(complete(body, service, deadline, client_gone, tokens))


def complete(
    body: CompletionBody,
    service: TextService,
    deadline: float | None,
    cancellation: Cancellation | None = None,
    allowance: Allowance = UNLIMITED,
) -> CompletionAnswer:
    """Answer a body in one piece.

    Args:
        body: what is asked for.
        service: what answers.
        deadline: when to finish with what there is, on the clock of `time.time()`.
        cancellation: how whoever asked gives up, if they can.
        allowance: the tokens they may use, if they are counted.

    Raises:
        ServiceError: the request cannot be answered; the message says why.
    """
    check_answered_whole(body.stream)
    completion = service.complete(_request(body, service, deadline, cancellation or Cancellation(), allowance))
    return CompletionAnswer(
        **about(completion, service, ID),
        choices=[CompletionChoice(**_choice(choice)) for choice in completion.choices],
        usage=usage_of(completion),
    )


def stream(
    body: CompletionBody,
    service: TextService,
    deadline: float | None,
    cancellation: Cancellation,
    allowance: Allowance,
) -> Iterator[str]:
    """Answer a body chunk by chunk, each as JSON.

    Raises:
        ServiceError: the request cannot be answered, or not to its end; the message says why.
    """
    pieces = service.stream(_request(body, service, deadline, cancellation, allowance))
    beginning = about(pieces, service, ID)
    # Clients expect every chunk to have the field when they asked for usage, and none when they did not.
    hidden = None if wants_usage(body) else {"usage"}
    for piece in pieces:
        choice = CompletionChunkChoice(**_choice(piece))
        yield CompletionChunk(**beginning, choices=[choice]).model_dump_json(exclude=hidden)
    if wants_usage(body):
        yield CompletionChunk(**beginning, choices=[], usage=usage_of(pieces)).model_dump_json()


def _request(
    body: CompletionBody,
    service: TextService,
    deadline: float | None,
    cancellation: Cancellation,
    allowance: Allowance,
) -> TextRequest:
    check_model(body.model, service)
    check_stream_options(body)
    n = given_or(body.n, 1)
    best_of = given_or(body.best_of, n)
    if best_of < n:
        raise InvalidRequestError(
            f"`best_of` must be at least `n`, of which it is a choice; given: {best_of} and {n}.", param="best_of"
        )
    if best_of > n and body.stream:
        raise InvalidRequestError(
            f"`best_of` must not exceed `n` with `stream`: the best are known only at the end; given: {best_of} "
            f"and {n}.",
            param="best_of",
        )
    return TextRequest(
        prompts=_prompts(body.prompt),
        n=n,
        best_of=best_of if best_of > n else None,
        max_tokens=given_or(body.max_tokens, 16),
        sampling=sampling_of(body),
        seed=body.seed,
        stop=stops_of(body),
        logprobs=body.logprobs,
        echo=bool(body.echo),
        deadline=deadline,
        cancellation=cancellation,
        allowance=allowance,
    )


def _prompts(prompt: str | list[str] | list[int] | list[list[int]] | None) -> list[str | list[int]]:
    """The four forms of `prompt` as a list of prompts."""
    if prompt is None or isinstance(prompt, str):
        return [prompt or ""]
    if isinstance(prompt[0], int):
        return [prompt]
    return list(prompt)


def _choice(choice: Choice | Piece) -> dict[str, Any]:
    logprobs = None if choice.tokens is None else _logprobs(choice.tokens)
    return {"index": choice.index, "text": choice.text, "logprobs": logprobs, **finish_of(choice)}


def _logprobs(tokens: list[ScoredToken]) -> Logprobs:
    return Logprobs(
        tokens=[token.text for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[token.top for token in tokens],
        text_offset=[token.offset for token in tokens],
    )
