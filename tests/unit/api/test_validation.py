"""What a client is told of a wrong body: the field, the bound, and what was given."""

from typing import Any

import pytest

from handler.api.completion_schemas import CompletionBody
from handler.api.generate_text import GenerateTextBody
from handler.api.validation import describe, parse_body
from handler.errors import InvalidRequestError

PROMPT_KINDS = "a string, a list of strings, a list of token ids or a list of such lists, and not an empty list"
OBFUSCATION = "`stream_options[include_obfuscation]` is not supported: chunks are as long as their text."
STOP_KINDS = "a string or a list of at most 4 strings, none of them empty"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": 5}, f"`prompt`: input should be {PROMPT_KINDS}; given: 5."),
        ({"prompt": []}, f"`prompt`: input should be {PROMPT_KINDS}; given: a list of 0 items."),
        ({"prompt": ["a", 5]}, f"`prompt`: input should be {PROMPT_KINDS}; given: a list of 2 items."),
        ({"prompt": [-1]}, f"`prompt`: input should be {PROMPT_KINDS}; given: a list of 1 items."),
        ({"prompt": {"a": "b"}}, f"`prompt`: input should be {PROMPT_KINDS}; given: an object with 1 fields."),
        ({"temperature": 2.5}, "`temperature`: input should be less than or equal to 2; given: 2.5."),
        ({"temperature": "hot"}, "`temperature`: input should be a valid number; given: a string of 3 characters."),
        ({"temperature": float("nan")}, "`temperature`: input should be a finite number; given: NaN."),
        ({"top_p": 0}, "`top_p`: input should be greater than 0; given: 0."),
        ({"max_tokens": -1}, "`max_tokens`: input should be greater than or equal to 0; given: -1."),
        ({"max_tokens": 1.5}, "`max_tokens`: input should be a valid integer; given: 1.5."),
        ({"max_tokens": True}, "`max_tokens`: input should be a valid integer; given: true."),
        ({"n": 0}, "`n`: input should be greater than or equal to 1; given: 0."),
        ({"logprobs": 6}, "`logprobs`: input should be less than or equal to 5; given: 6."),
        ({"seed": 2**63}, f"`seed`: input should be less than {2**63}; given: {2**63}."),
        ({"stop": ""}, f"`stop`: input should be {STOP_KINDS}; given: an empty string."),
        ({"stop": ["a"] * 5}, f"`stop`: input should be {STOP_KINDS}; given: a list of 5 items."),
        ({"stream": "yes"}, "`stream`: input should be a valid boolean; given: a string of 3 characters."),
        ({"stream_options": {"a": 1}}, "Unknown field: `stream_options[a]`."),
        ({"logit_bias": {"5": 101}}, "`logit_bias[5]`: input should be less than or equal to 100; given: 101."),
        ({"suffix": "b"}, "`suffix` is not supported: the model continues a text, and fills no gaps."),
        ({"stream_options": {"include_obfuscation": True}}, OBFUSCATION),
        ({"best_of": 0}, "`best_of`: input should be greater than or equal to 1; given: 0."),
        ({"a" * 100: 1}, "Unknown field: `" + "a" * 64 + "...`."),
        ({"\ud800": 1}, "The name of a field is not valid Unicode."),
    ],
)
def test_a_completion_body_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_body(CompletionBody, fields)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "`prompt` is required."),
        ({"prompt": None}, "`prompt`: input should be a valid string; given: null."),
        ({"prompt": "a", "max_length": 0}, "`max_length`: input should be greater than or equal to 1; given: 0."),
        ({"prompt": "a", "do_sample": ""}, "`do_sample`: input should be a valid boolean; given: an empty string."),
        ({"prompt": "a", "max_new_tokens": 5}, "Unknown field: `max_new_tokens`."),
    ],
)  # fmt: skip
def test_a_generate_text_body_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_body(GenerateTextBody, fields)
    assert caught.value.message == message


def test_null_means_the_default() -> None:
    nulls = dict.fromkeys(CompletionBody.model_fields)
    assert parse_body(CompletionBody, nulls) == CompletionBody()


@pytest.mark.parametrize(
    ("value", "description"),
    [
        ("secret", "a string of 6 characters"),
        (b"ab", "a string of 2 characters"),
        (["secret"], "a list of 1 items"),
        ({"secret": 1}, "an object with 1 fields"),
        (float("-inf"), "-Infinity"),
        (10**80, "1" + "0" * 63 + "..."),
        (object(), "object"),
    ],
)
def test_text_is_described_and_numbers_are_shown(value: object, description: str) -> None:
    assert describe(value) == description
