"""The request and the response of `/v1/chat/completions`, as OpenAI's clients send and read them."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from handler.api.completion_schemas import SamplingBody, Several, Usage, must_be
from handler.api.unsupported import UnsupportedChatFields, UnsupportedMessageFields
from handler.api.validation import StrictBody


class TextPart(StrictBody):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(UnsupportedMessageFields):
    """What somebody said."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str | Several[TextPart], must_be("a string or a list of parts of type `text`")]
    name: str | None = Field(None, description="Accepted, and not used.")


class ChatBody(SamplingBody, UnsupportedChatFields):
    """The request."""

    messages: Annotated[Several[Message], Field(description="The conversation so far.")]
    max_tokens: int | None = Field(None, ge=1, description="As `max_completion_tokens`.")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="Tokens to generate for each choice; by default as many as there is room for."
    )
    logprobs: bool | None = Field(None, description="Report log-probabilities.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives to report; only with `logprobs`.")


class ChatLogprob(BaseModel):
    """A token that could have stood somewhere."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(ChatLogprob):
    """A token that stands there."""

    top_logprobs: list[ChatLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities under the model itself, before temperature, penalties and filters; one entry a token."""

    content: list[ChatTokenLogprob]


class ChatMessage(BaseModel):
    """The model's answer, as it wrote it: it may begin with a space."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]
    cut_by: Literal["deadline"] | None = Field(description="`deadline` when time was up before the text was done.")


class ChatAnswer(BaseModel):
    """The response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Seconds since 1970.")
    model: str
    system_fingerprint: str = Field(description="The model's version, the engine and its instruction set.")
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(BaseModel):
    """What has been added to an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    """What one event adds to an answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None
    cut_by: Literal["deadline"] | None = None


class ChatChunk(BaseModel):
    """One event of a streamed response; all of them have the same `id`."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
