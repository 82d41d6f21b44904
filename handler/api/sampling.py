"""What the bodies of completions and chat completions have in common, as the service wants it."""

from typing import TypeVar

from handler.api.completion_schemas import SamplingBody
from handler.errors import InvalidRequestError
from handler.inference.protocol import SamplingParams

_T = TypeVar("_T")


def given_or(value: _T | None, default: _T) -> _T:
    """A field's value, or its default where it is null."""
    return default if value is None else value


def sampling_of(body: SamplingBody) -> SamplingParams:
    """How tokens are chosen."""
    return SamplingParams(
        temperature=given_or(body.temperature, 1.0),
        top_k=given_or(body.top_k, 0),
        top_p=given_or(body.top_p, 1.0),
        min_p=given_or(body.min_p, 0.0),
        repetition_penalty=given_or(body.repetition_penalty, 1.0),
        presence_penalty=given_or(body.presence_penalty, 0.0),
        frequency_penalty=given_or(body.frequency_penalty, 0.0),
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
    )


def stops_of(body: SamplingBody) -> list[str]:
    """The strings that end the text."""
    return [body.stop] if isinstance(body.stop, str) else body.stop or []


def check_stream_options(body: SamplingBody) -> None:
    """See that what belongs to a stream comes with one.

    Raises:
        InvalidRequestError: it does not.
    """
    if body.stream_options is not None and not body.stream:
        raise InvalidRequestError("`stream_options` needs `stream` to be true.", param="stream_options")


def check_answered_whole(stream: bool | None) -> None:
    """See that nobody asks for a stream where the answer comes in one piece.

    Raises:
        InvalidRequestError: somebody does.
    """
    if stream:
        raise InvalidRequestError(
            "`stream` must be false here, where the answer comes in one piece; given: true.", param="stream"
        )


def wants_usage(body: SamplingBody) -> bool:
    """Whether a stream is to end with its usage."""
    return body.stream_options is not None and bool(body.stream_options.include_usage)
