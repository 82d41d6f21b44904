"""Tokenizers in SentencePiece's way, as Llama has them: text to token ids and back, also piece by piece."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, processors
from transformers import PreTrainedTokenizerFast

from handler.errors import UnsupportedModelError
from handler.inference.text import TextAssembler
from handler.inference.tokenizer import Tokenizer, ends_named_in
from tests.causal_models import BEGIN, END, llama_tokenizer

LIBRARY = llama_tokenizer()
TOKENIZER = Tokenizer(LIBRARY.to_str().encode(), ends=[END])
PEER = PreTrainedTokenizerFast(tokenizer_object=LIBRARY)  # type: ignore[no-untyped-call]

# A lower block is how SentencePiece writes a space: there it cannot be told from one.
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"))
IDS = st.lists(st.integers(3, TOKENIZER.vocabulary_size - 1), max_size=20)


def changed(**changes: Any) -> bytes:
    """A sound `tokenizer.json` with some keys changed; those of the model are written `model_KEY`."""
    description = json.loads(LIBRARY.to_str())
    for key, value in changes.items():
        (description["model"] if key.startswith("model_") else description)[key.removeprefix("model_")] = value
    return json.dumps(description).encode()


@given(TEXTS)
def test_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(TEXTS)
def test_text_comes_back_piece_by_piece(text: str) -> None:
    assembler = TextAssembler(TOKENIZER, begins=True)
    pieces = [assembler.push(token) for token in TOKENIZER.encode(text)]
    assert "".join(pieces) + assembler.finish() == text


@given(IDS)
def test_decodes_as_transformers_does(tokens: list[int]) -> None:
    """Bytes that are no character become one U+FFFD each here, and there one for all that stand together."""
    theirs = PEER.decode(tokens, clean_up_tokenization_spaces=False)
    ours = TOKENIZER.decode(tokens)
    if "\ufffd" not in theirs:
        assert ours == theirs


def test_encodes_as_transformers_does_with_the_token_a_text_begins_with() -> None:
    for text in ("the sea", "  two spaces", "naïve 🙂\n", "a<s>b</s>", ""):
        assert [BEGIN, *TOKENIZER.encode(text)] == PEER.encode(text)


def test_what_follows_a_text_keeps_its_space() -> None:
    tokens = TOKENIZER.encode("the sea")
    assembler = TextAssembler(TOKENIZER)
    assert "".join(map(assembler.push, tokens)) == " the sea"
    assert TOKENIZER.encode(" the sea", continues=True) == tokens


def test_the_token_that_begins_a_text_may_be_written_out() -> None:
    tokens = TOKENIZER.encode("<s>the sea")
    assert tokens[0] == BEGIN
    assembler = TextAssembler(TOKENIZER, begins=True)
    assert "".join(map(assembler.push, tokens)) == "<s>the sea"


def test_tokens_have_names() -> None:
    assert [TOKENIZER.token_text(token) for token in TOKENIZER.encode("the é")] == [
        " ",
        "the",
        " ",
        r"bytes:\xc3",
        r"bytes:\xa9",
    ]
    assert TOKENIZER.token_text(BEGIN) == "<s>"


def test_the_configuration_says_what_a_text_ends_with() -> None:
    ends = ends_named_in({"eos_token_id": [END, 0]}, {"eos_token_id": 7}, {"eos_token_id": None}, {})
    assert ends == (END, 0, 7)
    tokenizer = Tokenizer(LIBRARY.to_str().encode(), ends=[*ends, 5000])
    assert (tokenizer.end_of_text, tokenizer.ends) == (END, frozenset({END, 0, 7}))
    assert (tokenizer.begin_of_text, tokenizer.adds_begin) == (BEGIN, True)


def test_without_a_post_processor_a_text_begins_with_what_ends_one() -> None:
    tokenizer = Tokenizer(changed(post_processor=None), ends=[END])
    assert (tokenizer.begin_of_text, tokenizer.adds_begin) == (END, False)


def without_strip() -> dict[str, Any]:
    decoder: dict[str, Any] = json.loads(LIBRARY.to_str())["decoder"]
    return decoder | {"decoders": decoder["decoders"][:-1]}


def test_a_tokenizer_that_puts_no_space_before_a_text_drops_none() -> None:
    """As Gemma's."""
    data = changed(decoder=without_strip(), normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    tokenizer = Tokenizer(data, ends=[END])
    assert tokenizer.decode(tokenizer.encode(" the sea")) == " the sea"
    assert tokenizer.decode(tokenizer.encode("the sea")) == "the sea"


def two_before_a_text() -> Any:
    template = processors.TemplateProcessing(single="<s> </s> $A", special_tokens=[("<s>", 1), ("</s>", 2)])
    return json.loads(template.__getstate__())


@pytest.mark.parametrize(
    ("data", "ends", "message"),
    [
        (changed(), [], "<|endoftext|> must be among the added tokens, or config.json name an eos_token_id"),
        (changed(model_byte_fallback=False), [END], "or that of SentencePiece with a fallback to bytes"),
        (changed(decoder=json.loads(decoders.Metaspace().__getstate__())), [END], "given 'Metaspace'"),
        (
            changed(decoder={"type": "Sequence", "decoders": [*without_strip()["decoders"], {"type": "Fuse"}]}),
            [END],
            "the decoder's step {'type': 'Fuse'} is not implemented",
        ),
        (changed(model_vocab={"<unk>": 0, "<s>": 1, "</s>": 2}, model_merges=[]), [END], "it lacks <0x00>"),
        (
            changed(post_processor=two_before_a_text()),
            [END],
            "at most one token may be put before a text, given [1, 2]",
        ),
    ],
)
def test_other_kinds_are_refused_by_name(data: bytes, ends: list[int], message: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        Tokenizer(data, ends)
    assert message in caught.value.message
