"""Text to token ids and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from transformers import PreTrainedTokenizerFast

from handler.errors import ContextLengthExceededError, CorruptModelError, InvalidRequestError, UnsupportedModelError
from handler.inference.tokenizer import Tokenizer
from tests.models import tiny_tokenizer, tokenizer_json

TOKENIZER = tiny_tokenizer()
PEER = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
    tokenizer_object=Library.from_buffer(tokenizer_json())
)
IDS = st.lists(st.integers(0, TOKENIZER.vocabulary_size - 1), max_size=20)


def changed(**changes: Any) -> bytes:
    """A sound `tokenizer.json` with some keys changed; those of the model are written `model.KEY`."""
    description = json.loads(tokenizer_json())
    for key, value in changes.items():
        (description["model"] if key.startswith("model_") else description)[key.removeprefix("model_")] = value
    return json.dumps(description).encode()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_comes_back(text: str) -> None:
    tokens = TOKENIZER.encode(text)
    assert TOKENIZER.decode(tokens) == text
    assert b"".join(map(TOKENIZER.token_bytes, tokens)) == text.encode()


@given(IDS)
def test_decodes_as_transformers_does(tokens: list[int]) -> None:
    assert TOKENIZER.decode(tokens) == PEER.decode(tokens, clean_up_tokenization_spaces=False)


def test_end_of_text_in_a_text_is_the_token() -> None:
    end = TOKENIZER.end_of_text
    assert end == 299
    assert TOKENIZER.encode("a<|endoftext|>b") == [*TOKENIZER.encode("a"), end, *TOKENIZER.encode("b")]
    assert TOKENIZER.token_bytes(end) == b"<|endoftext|>"


def test_tokens_that_are_part_of_a_character_are_written_as_bytes() -> None:
    assert [TOKENIZER.token_text(token) for token in TOKENIZER.encode("sé🙂")] == [
        "s",
        "é",
        r"bytes:\xf0\x9f",
        r"bytes:\x99",
        r"bytes:\x82",
    ]


def test_an_id_beyond_the_vocabulary_has_no_bytes() -> None:
    assert TOKENIZER.token_bytes(TOKENIZER.vocabulary_size) == b""


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d \ude42"])
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"lone surrogate U\+D[89A-F]") as caught:
        TOKENIZER.encode(text)
    assert caught.value.param == "prompt"


def test_a_file_that_asks_for_it_cuts_and_fills_nothing() -> None:
    library = Library.from_buffer(tokenizer_json())
    library.enable_truncation(2)
    library.enable_padding(length=50)
    tokenizer = Tokenizer(library.to_str().encode())
    assert tokenizer.encode("the sea was") == TOKENIZER.encode("the sea was")


def test_nothing_is_put_around_a_text() -> None:
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [299], "tokens": ["<|endoftext|>"]}},
    }
    assert Tokenizer(changed(post_processor=template)).encode("the sea") == TOKENIZER.encode("the sea")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}), "must be BPE, given 'WordLevel'"),
        (
            changed(decoder=None),
            "the decoder must be ByteLevel, or that of SentencePiece with a fallback to bytes, given None",
        ),
        (changed(decoder={"type": "ByteFallback"}), "with a fallback to bytes, given 'ByteFallback'"),
        (changed(model_end_of_word_suffix="</w>"), "end_of_word_suffix must be empty"),
        (changed(model_vocab={"a": 0}, model_merges=[]), "must have every byte, it lacks 0x21"),
        (changed(added_tokens=[]), "<|endoftext|> must be among the added tokens"),
    ],
)
def test_other_kinds_are_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        Tokenizer(data)
    assert message in caught.value.message


def test_a_token_outside_the_byte_alphabet_is_refused() -> None:
    vocabulary = json.loads(tokenizer_json())["model"]["vocab"]
    with pytest.raises(UnsupportedModelError, match="token '日' is not written in the byte alphabet"):
        Tokenizer(changed(model_vocab=vocabulary | {"日": 299}))


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", tokenizer_json()[:-5]])
def test_damage_is_told(data: bytes) -> None:
    with pytest.raises(CorruptModelError, match=r"tokenizer\.json"):
        Tokenizer(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" * 300_000, "`input` may have at most 262144 bytes; given: 300000."),
        ("日" * 30_000, "`input` may have at most 32768 tokens; given: 90000."),
    ],
)
def test_a_text_longer_than_any_context_is_refused(text: str, message: str) -> None:
    with pytest.raises(ContextLengthExceededError) as refused:
        tiny_tokenizer(257).encode(text, "input")
    assert (refused.value.message, refused.value.param) == (message, "input")
