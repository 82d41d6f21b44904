"""`POST /v1/explain`: why this next token. What the figures mean is written in `handler/explaining.py`."""

import math
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from handler.api.answers import written
from handler.api.completion_schemas import Several, TokenId, must_be
from handler.api.dependencies import ClientGone, Deadline, Service, Tokens, check_model
from handler.api.json_body import JsonRoute
from handler.api.validation import StrictBody
from handler.completion import FieldNames
from handler.errors import ContextLengthExceededError, InvalidRequestError
from handler.explaining import Position, explain
from handler.service import TextService

router = APIRouter(tags=["insight"], route_class=JsonRoute)

# The model reads the prompt once for each of its tokens, so the work grows with the square of its length: these are
# 16,384 tokens, which take a small GPT-2 seven seconds on two processors.
MOST_TOKENS = 128

_TEXT = must_be("a string or a list of token ids, and not an empty list")


class ExplainBody(StrictBody):
    """The request."""

    prompt: Annotated[str | Several[TokenId], _TEXT] = Field(description="What the model read. Not empty.")
    continuation: Annotated[str | Several[TokenId] | None, _TEXT] = Field(
        None, description="What came next; the most probable token by default."
    )
    model: str | None = Field(None, description="The name of the model served here.")
    top: int = Field(5, ge=1, le=20, description="Alternatives to report at each position.")


class Token(BaseModel):
    """A token."""

    id: int
    text: str


class Alternative(Token):
    """A token that could have stood there."""

    probability: float


class ExplainedToken(Token):
    """A token of the continuation, and what it came from."""

    logprob: float
    probability: float
    entropy: float = Field(description="How uncertain the model was, in nats; 0 means certain.")
    alternatives: list[Alternative] = Field(description="The most probable tokens at this position, best first.")
    contributions: list[float] = Field(
        description="For each token of the prompt: the log-probability, in nats, that this token loses without it."
    )


class Explanation(BaseModel):
    """The response."""

    model: str
    system_fingerprint: str
    prompt: list[Token]
    continuation: list[ExplainedToken]


@router.post("/v1/explain", response_model=Explanation)
def explain_continuation(
    body: ExplainBody, service: Service, deadline: Deadline, client_gone: ClientGone, tokens: Tokens
) -> Response:
    """Explain a continuation, token by token."""
    check_model(body.model, service)
    if not body.prompt:
        raise InvalidRequestError("`prompt` must not be empty; given: no tokens.", param="prompt")
    prompt = service.encode(body.prompt)
    continuation = (
        () if body.continuation is None else service.encode_text(body.continuation, "continuation", continues=True)
    )
    if body.continuation is not None and not continuation:
        raise InvalidRequestError("`continuation` must not be empty; given: no tokens.", param="continuation")
    if len(prompt) + len(continuation) > MOST_TOKENS:
        raise ContextLengthExceededError(
            f"`prompt` and `continuation` together may have at most {MOST_TOKENS} tokens here; "
            f"given: {len(prompt)} and {len(continuation)}.",
            param="prompt",
        )
    if not continuation:
        continuation = (service.insight.most_probable(prompt, deadline, FieldNames(max_tokens="continuation")),)
    positions = explain(
        prompt,
        continuation,
        service.begin_of_text,
        lambda texts: service.insight.score(
            texts, top=body.top, deadline=deadline, cancellation=client_gone, allowance=tokens, param="prompt"
        ),
    )
    return written(
        Explanation(
            model=service.model.name,
            system_fingerprint=service.fingerprint(service.insight.engine),
            prompt=[Token(id=token, text=service.token_text(token)) for token in prompt],
            continuation=[_explained(position, service) for position in positions],
        )
    )


def _explained(position: Position, service: TextService) -> ExplainedToken:
    scores = position.scores
    return ExplainedToken(
        id=scores.token,
        text=service.token_text(scores.token),
        logprob=scores.logprob,
        probability=math.exp(scores.logprob),
        entropy=scores.entropy,
        alternatives=[
            Alternative(id=token, text=service.token_text(token), probability=math.exp(logprob))
            for token, logprob in scores.top
        ],
        contributions=position.contributions,
    )
