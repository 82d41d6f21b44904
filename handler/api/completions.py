"""`POST /v1/completions`: from OpenAI's body to the service and back. Direct invocations take the same way."""

import time
import uuid
from typing import TypeVar

from fastapi import APIRouter

from handler.api.completion_schemas import CompletionAnswer, CompletionBody, CompletionChoice, Logprobs, Usage
from handler.api.dependencies import Deadline, Service, check_model
from handler.completion import Choice, ScoredToken, TextRequest
from handler.inference.protocol import SamplingParams
from handler.service import TextService

router = APIRouter(tags=["completions"])

_T = TypeVar("_T")


@router.post("/v1/completions")
def create_completion(body: CompletionBody, service: Service, deadline: Deadline) -> CompletionAnswer:
    """Continue each prompt."""
    return complete(body, service, deadline)


def complete(body: CompletionBody, service: TextService, deadline: float | None) -> CompletionAnswer:
    """Answer a body.

    Raises:
        ServiceError: the request cannot be answered; the message says why.
    """
    check_model(body.model, service)
    completion = service.complete(
        TextRequest(
            prompts=_prompts(body.prompt),
            n=_or(body.n, 1),
            max_tokens=_or(body.max_tokens, 16),
            sampling=_sampling(body),
            seed=body.seed,
            stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
            logprobs=body.logprobs,
            echo=bool(body.echo),
            deadline=deadline,
        )
    )
    return CompletionAnswer(
        id=f"cmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=service.model.name,
        system_fingerprint=service.fingerprint,
        choices=[_choice(choice) for choice in completion.choices],
        usage=Usage(
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            total_tokens=completion.prompt_tokens + completion.completion_tokens,
        ),
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


def _choice(choice: Choice) -> CompletionChoice:
    late = choice.finish_reason == "deadline"
    return CompletionChoice(
        index=choice.index,
        text=choice.text,
        logprobs=None if choice.tokens is None else _logprobs(choice.tokens),
        # Clients know two reasons; the third is told in a field of its own.
        finish_reason="length" if choice.finish_reason == "deadline" else choice.finish_reason,
        cut_by="deadline" if late else None,
    )


def _logprobs(tokens: list[ScoredToken]) -> Logprobs:
    return Logprobs(
        tokens=[token.text for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[token.top for token in tokens],
        text_offset=[token.offset for token in tokens],
    )
