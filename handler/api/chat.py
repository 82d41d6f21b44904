"""`POST /v1/chat/completions`: a conversation becomes a prompt by the model's template, and is continued like any."""

from collections.abc import Iterator

from fastapi import APIRouter, Response

from handler.allowance import UNLIMITED, Allowance
from handler.api.answers import about, finish_of, usage_of, written
from handler.api.chat_schemas import (
    ChatAnswer,
    ChatBody,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprob,
    ChatLogprobs,
    ChatMessage,
    ChatTokenLogprob,
    Message,
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
from handler.completion import FieldNames, ScoredToken, TextRequest
from handler.errors import InvalidRequestError
from handler.service import TextService

router = APIRouter(tags=["completions"], route_class=JsonRoute)

ID = "chatcmpl"

_PART_OF_A_CHARACTER = "bytes:"


@router.post("/v1/chat/completions", response_model=ChatAnswer, responses=EVENT_STREAM)
def create_chat_completion(
    body: ChatBody, service: Service, deadline: Deadline, client_gone: ClientGone, tokens: Tokens
) -> Response:
    """Answer a conversation; with `stream`, in server-sent events that each hold what has become certain."""
    if body.stream:
        request = _request(body, service, deadline, client_gone, tokens)
        return EventStream(_stream(body, request, service), client_gone)
    return written(complete_chat(body, service, deadline, client_gone, tokens))


def complete_chat(
    body: ChatBody,
    service: TextService,
    deadline: float | None,
    cancellation: Cancellation | None = None,
    allowance: Allowance = UNLIMITED,
) -> ChatAnswer:
    """Answer a body in one piece; the arguments are those of `completions.complete`.

    Raises:
        ServiceError: the request cannot be answered; the message says why.
    """
    check_answered_whole(body.stream)
    completion = service.complete(_request(body, service, deadline, cancellation or Cancellation(), allowance))
    choices = [
        ChatChoice(
            index=choice.index,
            message=ChatMessage(content=choice.text),
            logprobs=_logprobs(choice.tokens, body),
            **finish_of(choice),
        )
        for choice in completion.choices
    ]
    return ChatAnswer(**about(completion, service, ID), choices=choices, usage=usage_of(completion))


def _stream(body: ChatBody, request: TextRequest, service: TextService) -> Iterator[str]:
    """Answer chunk by chunk, each as JSON; each choice begins with its role."""
    pieces = service.stream(request)
    beginning = about(pieces, service, ID)
    hidden = None if wants_usage(body) else {"usage"}
    begun: set[int] = set()
    for piece in pieces:
        role = None if piece.index in begun else "assistant"
        begun.add(piece.index)
        choice = ChatChunkChoice(
            index=piece.index,
            delta=ChatDelta(role=role, content=piece.text),
            logprobs=_logprobs(piece.tokens, body),
            **finish_of(piece),
        )
        yield ChatChunk(**beginning, choices=[choice]).model_dump_json(exclude=hidden)
    if wants_usage(body):
        yield ChatChunk(**beginning, choices=[], usage=usage_of(pieces)).model_dump_json()


def _request(
    body: ChatBody,
    service: TextService,
    deadline: float | None,
    cancellation: Cancellation,
    allowance: Allowance,
) -> TextRequest:
    check_model(body.model, service)
    check_stream_options(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequestError("`top_logprobs` needs `logprobs` to be true.", param="top_logprobs")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidRequestError(
            "`max_tokens` and `max_completion_tokens` mean the same; only one may be given.", param="max_tokens"
        )
    messages = [{"role": message.role, "content": _content(message)} for message in body.messages]
    prompt, stops = service.chat_prompt(messages)
    wanted = given_or(body.max_completion_tokens, body.max_tokens)
    names = FieldNames(
        prompt="messages", max_tokens="max_completion_tokens" if body.max_tokens is None else "max_tokens"
    )
    return TextRequest(
        prompts=[prompt],
        n=given_or(body.n, 1),
        max_tokens=service.room_after(prompt, "messages") if wanted is None else wanted,
        sampling=sampling_of(body),
        seed=body.seed,
        stop=[*stops_of(body), *stops],
        logprobs=given_or(body.top_logprobs, 0) if body.logprobs else None,
        deadline=deadline,
        cancellation=cancellation,
        allowance=allowance,
        names=names,
    )


def _content(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content)


def _logprobs(tokens: list[ScoredToken] | None, body: ChatBody) -> ChatLogprobs | None:
    if tokens is None:
        return None
    return ChatLogprobs(
        content=[
            ChatTokenLogprob(
                token=token.text,
                logprob=given_or(token.logprob, 0.0),
                bytes=_bytes(token.text),
                # The service lists the token itself last, where it is not among the best.
                top_logprobs=[
                    ChatLogprob(token=text, logprob=logprob, bytes=_bytes(text))
                    for text, logprob in list((token.top or {}).items())[: given_or(body.top_logprobs, 0)]
                ],
            )
            for token in tokens
            if token.part == "output"
        ]
    )


def _bytes(text: str) -> list[int]:
    r"""The bytes of a token, which is written `bytes:\xNN` where it is part of a character."""
    if text.startswith(_PART_OF_A_CHARACTER + "\\x"):
        return list(bytes.fromhex(text.removeprefix(_PART_OF_A_CHARACTER).replace("\\x", "")))
    return list(text.encode())
