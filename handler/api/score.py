"""`POST /v1/score`: how probable texts are, as documents of their own."""

import math
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from handler.api.answers import written
from handler.api.completion_schemas import Several, TokenId, TokenIds, must_be
from handler.api.dependencies import ClientGone, Deadline, Service, Tokens, check_model
from handler.api.json_body import JsonRoute
from handler.api.validation import StrictBody
from handler.errors import InvalidRequestError
from handler.inference.protocol import TokenLogprobs
from handler.service import TextService

router = APIRouter(tags=["insight"], route_class=JsonRoute)


class ScoreBody(StrictBody):
    """The request."""

    input: Annotated[
        str | Several[str] | Several[TokenId] | Several[TokenIds],
        must_be("a string, a list of strings, a list of token ids or a list of such lists, and not an empty list"),
    ] = Field(description="Text or token ids, or a list of either; none of them empty.")
    model: str | None = Field(None, description="The name of the model served here.")
    tokens: bool | None = Field(None, description="Report each token; not by default.")


class ScoredToken(BaseModel):
    """One token of a text, and how probable it is after those before it."""

    id: int
    text: str
    logprob: float


class ScoredText(BaseModel):
    """One text. Its first token is scored as a document's: after `<|endoftext|>`, or what the model has for it."""

    index: int
    token_count: int
    log_likelihood: float = Field(description="The sum of its tokens' log-probabilities, in nats.")
    perplexity: float = Field(description="e to the minus mean log-probability of its tokens.")
    tokens: list[ScoredToken] | None


class ScoreUsage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class ScoreAnswer(BaseModel):
    """The response: an entry for each text, in their order."""

    object: Literal["list"] = "list"
    model: str
    system_fingerprint: str
    data: list[ScoredText]
    usage: ScoreUsage


@router.post("/v1/score", response_model=ScoreAnswer)
def score(body: ScoreBody, service: Service, deadline: Deadline, client_gone: ClientGone, tokens: Tokens) -> Response:
    """Score texts."""
    check_model(body.model, service)
    given = _texts(body.input)
    service.insight.check_count(len(given), "input")
    texts = [service.encode_text(text, "input") for text in given]
    for index, text in enumerate(texts):
        if not text:
            raise InvalidRequestError(f"`input[{index}]` must not be empty; given: no tokens.", param="input")
    documents = [(service.begin_of_text, *text) for text in texts]
    scores = service.insight.score(
        documents, top=0, deadline=deadline, cancellation=client_gone, allowance=tokens, param="input"
    )
    count = sum(map(len, texts))
    return written(
        ScoreAnswer(
            model=service.model.name,
            system_fingerprint=service.fingerprint(service.insight.engine),
            data=[_scored(index, text, bool(body.tokens), service) for index, text in enumerate(scores)],
            usage=ScoreUsage(prompt_tokens=count, total_tokens=count),
        )
    )


def _texts(given: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """The four forms of `input` as a list of texts."""
    if isinstance(given, str):
        return [given]
    return [given] if isinstance(given[0], int) else list(given)


def _scored(index: int, scores: list[TokenLogprobs], wants_tokens: bool, service: TextService) -> ScoredText:
    likelihood = math.fsum(score.logprob for score in scores)
    tokens = [
        ScoredToken(id=score.token, text=service.token_text(score.token), logprob=score.logprob) for score in scores
    ]
    return ScoredText(
        index=index,
        token_count=len(scores),
        log_likelihood=likelihood,
        # Even the least probable text has a perplexity that can be written down.
        perplexity=math.exp(min(-likelihood / len(scores), 700)),
        tokens=tokens if wants_tokens else None,
    )
