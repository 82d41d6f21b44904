"""The byte-level BPE: everything round-trips, `<|endoftext|>` is one token, small texts are refused."""

import pytest

from handler.errors import InvalidRequestError
from lifecycle.training.tokenizer import END_OF_TEXT, encode_documents, train_tokenizer

TEXTS = ["It was the best of times, it was the worst of times. " * 3, "The times were the best. " * 3]


@pytest.mark.parametrize("text", ["It was.", "  two  spaces\n\nand\ttab", "naïve — 你好 🙂", "\x00\x7f\u200b", ""])
def test_any_text_round_trips(text: str) -> None:
    tokenizer = train_tokenizer(TEXTS, 280)

    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_documents_begin_with_end_of_text() -> None:
    tokenizer = train_tokenizer(TEXTS, 280)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)

    encoded = encode_documents(tokenizer, ["best", "worst of"])

    assert [tokenizer.decode(list(ids[1:])) for ids in encoded] == ["best", "worst of"]
    assert [[i for i, token in enumerate(ids) if token == end_of_text] for ids in encoded] == [[0], [0]]


def test_merges_make_common_words_one_token() -> None:
    tokenizer = train_tokenizer(TEXTS, 280)

    assert tokenizer.encode(" times").tokens == ["Ġtimes"]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (256, "vocabulary: must be at least 257, every byte and <|endoftext|>; got 256"),
        (100_000, "vocabulary: the texts are too short for 100000 tokens; they yield "),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(size: int, message: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        train_tokenizer(TEXTS, size)

    assert raised.value.message.startswith(message)
