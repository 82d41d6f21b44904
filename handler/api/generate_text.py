"""`POST /generate_text`: the contract of the Flask tutorials, made to work.

`max_length` counts prompt and output together, and the text returned begins with the prompt, as transformers' pipeline
does it; the defaults are GPT-2's own for text generation there (sampling, top_k 50).
"""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from handler.api.dependencies import ClientGone, Deadline, Service, Tokens
from handler.api.json_body import JsonRoute
from handler.api.validation import StrictBody
from handler.completion import FieldNames, TextRequest
from handler.errors import ContextLengthExceededError, InvalidRequestError
from handler.inference.protocol import SamplingParams

router = APIRouter(tags=["generate_text"], route_class=JsonRoute)


class GenerateTextBody(StrictBody):
    """The request."""

    prompt: Annotated[str, Field(description="Empty means what a text begins with, `<|endoftext|>`.")]
    max_length: Annotated[int, Field(ge=1, description="Tokens of prompt and output together.")] = 100
    num_return_sequences: Annotated[int, Field(ge=1, description="Texts to generate.")] = 1
    do_sample: Annotated[bool, Field(description="False takes the best token each time.")] = True
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_k: Annotated[int, Field(ge=0, description="0 means all.")] = 50
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63, description="The same seed gives the same text.")] = None


class GeneratedText(BaseModel):
    """One text, the prompt included."""

    generated_text: str


@router.post("/generate_text")
def generate_text(
    body: GenerateTextBody,
    service: Service,
    deadline: Deadline,
    client_gone: ClientGone,
    tokens: Tokens,
    *,
    response: Response,
) -> list[GeneratedText]:
    """Continue the prompt up to `max_length` tokens; the header `x-cut-by: deadline` says that time was up before."""
    if body.num_return_sequences > 1 and not body.do_sample:
        raise InvalidRequestError(
            f"`num_return_sequences` must be 1 without sampling, which gives the same text every time; "
            f"given: {body.num_return_sequences}.",
            param="num_return_sequences",
        )
    prompt = service.encode(body.prompt)
    if len(prompt) >= body.max_length:
        raise InvalidRequestError(
            f"`max_length` counts prompt and output together; the prompt has {len(prompt)} tokens already, "
            f"given: {body.max_length}.",
            param="max_length",
        )
    longest = service.longest_text(prompt)
    if body.max_length > longest:
        raise ContextLengthExceededError(
            f"`max_length` may be at most {longest} with a prompt of {len(prompt)} tokens; given: {body.max_length}.",
            param="max_length",
        )
    completion = service.complete(
        TextRequest(
            prompts=[prompt],
            n=body.num_return_sequences,
            max_tokens=body.max_length - len(prompt),
            sampling=SamplingParams(
                temperature=body.temperature if body.do_sample else 0.0, top_k=body.top_k, top_p=body.top_p
            ),
            seed=body.seed,
            deadline=deadline,
            cancellation=client_gone,
            allowance=tokens,
            names=FieldNames(n="num_return_sequences"),
        )
    )
    if any(choice.finish_reason == "deadline" for choice in completion.choices):
        response.headers["x-cut-by"] = "deadline"
    return [GeneratedText(generated_text=body.prompt + choice.text) for choice in completion.choices]
