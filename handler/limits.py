"""The bounds every request is held to; a refusal names the field, the bound and what was given."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from handler.completion import FieldNames, TextRequest
from handler.errors import ContextLengthExceededError, InvalidRequestError


class Limits(Protocol):
    """The bounds; `Settings` has them."""

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt, in tokens."""

    @property
    def max_tokens(self) -> int:
        """The most tokens a choice may be given."""

    @property
    def max_n(self) -> int:
        """The most choices of one request."""


def check_numbers(request: TextRequest, limits: Limits) -> None:
    """Hold what needs no tokenizing to the limits.

    Raises:
        InvalidRequestError: there are too many choices, or too many tokens of each.
    """
    names, each, prompts = request.names, request.candidates, len(request.prompts)
    name = names.n if request.best_of is None else "best_of"
    if prompts * each > limits.max_n:
        raise InvalidRequestError(
            f"`{name}` times the number of prompts may be at most {limits.max_n}; given: {each} times {prompts}.",
            param=name,
        )
    if request.max_tokens > limits.max_tokens:
        raise InvalidRequestError(
            f"`{names.max_tokens}` may be at most {limits.max_tokens}; given: {request.max_tokens}.",
            param=names.max_tokens,
        )


def check_lengths(
    prompts: Sequence[Sequence[int]], max_tokens: int, limits: Limits, context: int, names: FieldNames
) -> None:
    """See that every prompt and its output fit; `names` are those of the fields they come from.

    Raises:
        ContextLengthExceededError: the longest does not.
    """
    longest = max(map(len, prompts))
    if longest > limits.max_prompt_tokens:
        raise ContextLengthExceededError(
            f"`{names.prompt}` may have at most {limits.max_prompt_tokens} tokens; given: {longest}.",
            param=names.prompt,
        )
    if longest + max_tokens > context:
        raise ContextLengthExceededError(
            f"`{names.prompt}` and `{names.max_tokens}` together may have at most {context} tokens, this model's "
            f"context; given: {longest} and {max_tokens}.",
            param=names.max_tokens,
        )


def check_tokens(ids: Iterable[int], vocabulary: int, param: str) -> None:
    """See that ids are tokens; `param` is the field they come from.

    Raises:
        InvalidRequestError: one is none.
    """
    for token in ids:
        if not 0 <= token < vocabulary:
            raise InvalidRequestError(
                f"`{param}` may hold token ids from 0 to {vocabulary - 1}; given: {token}.", param=param
            )
