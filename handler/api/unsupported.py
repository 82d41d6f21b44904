"""Fields of OpenAI's API that cannot be served here: refused by name and with the reason, unless they ask for nothing.

Clients send many of them with a value that means "not this time": null, an empty list, `none`. Those are let through.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from handler.api.validation import UNSUPPORTED, StrictBody

Nothing = Annotated[list[Any], Field(max_length=0)]


def unsupported(why: str) -> WrapValidator:
    """One sentence in place of what the few values that are let through have to say."""

    def validate(value: object, harmless: ValidatorFunctionWrapHandler) -> object:
        try:
            return harmless(value)
        except ValidationError as error:
            raise PydanticCustomError(UNSUPPORTED, "{why}", {"why": why}) from error

    return WrapValidator(validate)


_TOOLS = unsupported("the model calls no tools")
_SPEECH = unsupported("the model reads and writes text alone")
_KEPT = unsupported("conversations are not kept")
_TEXT = "Accepted where it asks for text, and not used."


class TextFormat(StrictBody):
    """Text as the model writes it."""

    type: Literal["text"]


class UnsupportedMessageFields(StrictBody):
    """What a message that a client sends back may bring along, as long as it says nothing."""

    refusal: Annotated[None, unsupported("the model refuses nothing")] = None
    annotations: Annotated[Nothing | None, unsupported("the model cites nothing")] = None
    audio: Annotated[None, _SPEECH] = None
    tool_calls: Annotated[Nothing | None, _TOOLS] = None
    function_call: Annotated[None, _TOOLS] = None


class UnsupportedChatFields(StrictBody):
    """What OpenAI's chat has and this one has not, with the values that ask for nothing; and what is harmless."""

    tools: Annotated[Nothing | None, _TOOLS] = None
    tool_choice: Annotated[Literal["none", "auto"] | None, _TOOLS] = None
    parallel_tool_calls: bool | None = Field(None, description="Accepted, and not used: there are no tools.")
    functions: Annotated[Nothing | None, _TOOLS] = None
    function_call: Annotated[Literal["none", "auto"] | None, _TOOLS] = None
    response_format: Annotated[TextFormat | None, unsupported("the text has the form the model gives it")] = Field(
        None, description=_TEXT
    )
    modalities: Annotated[list[Literal["text"]] | None, _SPEECH] = Field(None, description=_TEXT)
    audio: Annotated[None, _SPEECH] = None
    prediction: Annotated[None, unsupported("drafts are made here, from the text itself")] = None
    reasoning_effort: Annotated[Literal["none"] | None, unsupported("the model does not reason first")] = None
    verbosity: Annotated[Literal["medium"] | None, unsupported("the model does not know it")] = None
    web_search_options: Annotated[None, unsupported("the model searches nothing")] = None
    moderation: Annotated[None, unsupported("nothing is moderated here")] = None
    store: Annotated[Literal[False] | None, _KEPT] = None
    prompt_cache_options: Annotated[None, _KEPT] = None
    prompt_cache_retention: Annotated[Literal["in_memory"] | None, _KEPT] = None
    service_tier: Annotated[Literal["auto", "default"] | None, unsupported("there is one tier")] = None
    metadata: dict[str, str] | None = Field(None, description="Accepted, and not used.")
    prompt_cache_key: str | None = Field(None, description="Accepted, and not used.")
    safety_identifier: str | None = Field(None, description="Accepted, and not used.")
