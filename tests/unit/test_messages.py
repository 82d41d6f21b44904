"""Messages that mean harm are wrong once and for all: nothing tries them again."""

import pytest

from handler.errors import InvalidRequestError
from handler.events.messages import parse_message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"seed": 1' + "0" * 5000 + "}", "A number may have at most 400 digits; given: 5001."),
        ('{"n": 1, "prompt": "a", "n": 2}', "`n` is given more than once."),
        ('{"prompt": "\\ud800"', "The message is not valid JSON: Expecting ',' delimiter, at character 19."),
        ('{"prompt": "\ud800"}', "The message must be UTF-8; given: the byte 0xed at position 12."),
        ('{"prompt": ' * 100_000, "The message is nested too deeply."),
        ('{"temperature": NaN}', "NaN is no number in JSON."),
        (
            '{"prompt": "a"',
            "The message is not valid JSON: Expecting ',' delimiter, at character 14.",
        ),
    ],
    ids=range(7),
)
def test_a_harmful_message_is_refused_for_good(text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_message(text)
    assert (refused.value.message, refused.value.is_final) == (message, True)
