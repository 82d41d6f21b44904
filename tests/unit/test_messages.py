"""Messages that mean harm are wrong once and for all: nothing tries them again."""

import pytest

from handler.errors import InvalidRequestError
from handler.events.messages import parse_message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"seed": 1' + "0" * 5000 + "}", "The message holds a number of too many digits."),
        ('{"prompt": ' * 100_000, "The message is nested too deeply."),
        ('{"temperature": NaN}', "`temperature`: input should be a finite number; given: NaN."),
        (
            '{"prompt": "a"',
            "A message that begins with { must be valid JSON: Expecting ',' delimiter, at character 14.",
        ),
    ],
    ids=range(4),
)
def test_a_harmful_message_is_refused_for_good(text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_message(text)
    assert (refused.value.message, refused.value.is_final) == (message, True)
