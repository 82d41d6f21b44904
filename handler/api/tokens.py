"""`POST /tokenize` and `POST /detokenize`: from text to token ids and back."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from handler.api.answers import written
from handler.api.completion_schemas import TokenIds
from handler.api.dependencies import Service, check_model
from handler.api.json_body import JsonRoute
from handler.api.validation import StrictBody

router = APIRouter(tags=["tokens"], route_class=JsonRoute)


class TokenizeBody(StrictBody):
    """The request."""

    text: str = Field(description="A special token written out in it, such as `<|endoftext|>`, is that token.")
    model: str | None = Field(None, description="The name of the model served here.")


class Tokenized(BaseModel):
    """The response: the ids, and what each stands for."""

    count: int
    tokens: list[int]
    texts: list[str] = Field(description=r"A token that is part of a character is written `bytes:\xNN`.")


class DetokenizeBody(StrictBody):
    """The request."""

    tokens: Annotated[TokenIds, Field(description="Token ids.")]
    model: str | None = Field(None, description="The name of the model served here.")


class Detokenized(BaseModel):
    """The response."""

    text: str = Field(description="Bytes that are no character become U+FFFD.")


@router.post("/tokenize", response_model=Tokenized)
def tokenize(body: TokenizeBody, service: Service) -> Response:
    """Cut a text into tokens."""
    check_model(body.model, service)
    tokens = service.encode_text(body.text, "text")
    texts = [service.token_text(token) for token in tokens]
    return written(Tokenized(count=len(tokens), tokens=list(tokens), texts=texts))


@router.post("/detokenize")
def detokenize(body: DetokenizeBody, service: Service) -> Detokenized:
    """Put tokens together."""
    check_model(body.model, service)
    return Detokenized(text=service.decode(service.encode_text(body.tokens, "tokens")))
