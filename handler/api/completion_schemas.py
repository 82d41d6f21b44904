"""The request and the response of `/v1/completions`, as OpenAI's clients send and read them."""

from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from handler.api.unsupported import unsupported
from handler.api.validation import StrictBody

Item = TypeVar("Item")
# The first wrong item is what a client is told of; to find all of them would take a hundred times as long.
Several = Annotated[list[Item], Field(min_length=1, fail_fast=True)]
TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True)]
TokenIdKey = Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
StopString = Annotated[str, StringConstraints(min_length=1)]
StopStrings = Annotated[list[StopString], Field(max_length=4)]


def must_be(kinds: str) -> WrapValidator:
    """One sentence in place of what each branch of a union has to say."""

    def validate(value: object, branches: ValidatorFunctionWrapHandler) -> object:
        try:
            return branches(value)
        except ValidationError as error:
            raise PydanticCustomError("must_be", "Input should be {kinds}", {"kinds": kinds}) from error

    return WrapValidator(validate)


class StreamOptions(StrictBody):
    """How to stream."""

    include_usage: bool | None = Field(None, description="Add a last chunk with the usage, and no choices.")
    include_obfuscation: Annotated[Literal[False] | None, unsupported("chunks are as long as their text")] = None


class SamplingBody(StrictBody):
    """What completions and chat completions have in common. Null means a field's default."""

    model: str | None = Field(None, description="The name of the model served here.")
    n: int | None = Field(None, ge=1, description="Choices for each prompt; 1 by default.")
    temperature: float | None = Field(None, ge=0, le=2, description="1 by default; 0 takes the best token.")
    top_p: float | None = Field(None, gt=0, le=1, description="Draw from the best tokens that reach this probability.")
    top_k: int | None = Field(None, ge=0, description="Draw from the k best tokens; 0, the default, means all.")
    min_p: float | None = Field(None, ge=0, le=1, description="Draw from tokens this probable beside the best one.")
    repetition_penalty: float | None = Field(None, ge=0.01, le=10, description="Above 1, tokens seen become rarer.")
    presence_penalty: float | None = Field(None, ge=-2, le=2, description="Subtracted for a token already in the text.")
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description="Subtracted each time it is there.")
    logit_bias: dict[TokenIdKey, Bias] | None = Field(None, description="Added to the logits of these token ids.")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="The same seed gives the same text.")
    stop: Annotated[
        StopString | StopStrings | None,
        must_be("a string or a list of at most 4 strings, none of them empty"),
    ] = Field(None, description="Up to 4 strings that end the text, and are not part of it.")
    user: str | None = Field(None, description="Accepted, and not used.")
    stream: bool | None = Field(None, description="Answer in server-sent events, each with what has become certain.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")


class CompletionBody(SamplingBody):
    """The request."""

    prompt: Annotated[
        str | Several[str] | Several[TokenId] | Several[TokenIds] | None,
        must_be("a string, a list of strings, a list of token ids or a list of such lists, and not an empty list"),
    ] = Field(
        None,
        description="Text or token ids, or a list of either. Empty means what a text begins with, `<|endoftext|>`.",
    )
    max_tokens: int | None = Field(None, ge=0, description="Tokens to generate for each choice; 16 by default.")
    logprobs: int | None = Field(None, ge=0, le=5, description="Report this many alternatives beside each token.")
    echo: bool | None = Field(None, description="Begin the text with the prompt.")
    best_of: int | None = Field(
        None, ge=1, description="Generate so many choices, and return the `n` of the highest log-probability a token."
    )
    suffix: Annotated[None, unsupported("the model continues a text, and fills no gaps")] = None


class Logprobs(BaseModel):
    """Log-probabilities under the model itself, before temperature, penalties and filters; one entry a token.

    Where the model ended the text itself, the last entry is that of the token that ended it, which is not in the text.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One text."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]
    cut_by: Literal["deadline"] | None = Field(description="`deadline` when time was up before the text was done.")


class Usage(BaseModel):
    """Tokens read, and tokens generated: those of the choices, and with `best_of` those of the candidates."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionAnswer(BaseModel):
    """The response."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(description="Seconds since 1970.")
    model: str
    system_fingerprint: str = Field(description="The model's version, the engine and its instruction set.")
    choices: list[CompletionChoice]
    usage: Usage


class CompletionChunkChoice(BaseModel):
    """What has become certain of one text."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"] | None
    cut_by: Literal["deadline"] | None


class CompletionChunk(BaseModel):
    """One event of a streamed response; all of them have the same `id`."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChunkChoice]
    usage: Usage | None = None
