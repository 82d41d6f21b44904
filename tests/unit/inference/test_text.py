"""Text from tokens: whole characters, stop strings, offsets."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handler.inference.text import TextAssembler
from tests.models import tiny_tokenizer

TOKENIZER = tiny_tokenizer(257)  # every token is one byte
WORDS = tiny_tokenizer()

TEXTS = st.text(alphabet=st.one_of(st.sampled_from("ab é日🙂\ufffd"), st.characters(exclude_categories=["Cs"])))
# A small alphabet, so that stop strings do occur, overlap each other and begin without ending.
SHORT = st.text(alphabet="abé🙂", max_size=12)
STOPS = st.lists(st.text(alphabet="abé🙂", max_size=4), max_size=4)


def run(assembler: TextAssembler, tokens: list[int]) -> list[str]:
    """What each token makes certain, and what the end does."""
    return [*(assembler.push(token) for token in tokens), assembler.finish()]


def cut(text: str, stops: list[str]) -> str:
    """The text before the stop string that is complete first (of several, the longest), by looking at every end."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if stop and text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


@given(TEXTS)
def test_valid_text_comes_out_whole_and_never_in_halves(text: str) -> None:
    pieces = run(TextAssembler(TOKENIZER), TOKENIZER.encode(text))
    assert "".join(pieces) == text
    assert sum("\ufffd" in piece for piece in pieces) <= text.count("\ufffd")


@given(st.lists(st.integers(0, 255), max_size=20))
def test_any_bytes_come_out_as_they_decode(tokens: list[int]) -> None:
    assert "".join(run(TextAssembler(TOKENIZER), tokens)) == TOKENIZER.decode(tokens)


@given(SHORT, STOPS, st.booleans())
def test_the_first_stop_string_ends_the_text(text: str, stops: list[str], words: bool) -> None:
    tokenizer = WORDS if words else TOKENIZER
    assembler = TextAssembler(tokenizer, stops)
    assert "".join(run(assembler, tokenizer.encode(text))) == cut(text, stops)
    assert assembler.stopped is (cut(text, stops) != text)


@given(
    st.lists(st.integers(0, 298), max_size=20),
    st.lists(st.sampled_from(["\ufffd", "a", "h", "é", "the", "the s"]), max_size=3),
)
@example(WORDS.encode("the"), ["the", "h"])
def test_so_it_does_among_any_bytes(tokens: list[int], stops: list[str]) -> None:
    assert "".join(run(TextAssembler(WORDS, stops), tokens)) == cut(WORDS.decode(tokens), stops)


@given(SHORT, STOPS)
def test_what_was_handed_out_is_never_taken_back(text: str, stops: list[str]) -> None:
    """Whatever comes after a piece, the pieces so far begin the result: the text is certain."""
    tokens = TOKENIZER.encode(text)
    whole = "".join(run(TextAssembler(TOKENIZER, stops), tokens))
    for end in range(len(tokens)):
        assembler = TextAssembler(TOKENIZER, stops)
        assert whole.startswith("".join(assembler.push(token) for token in tokens[:end]))


def test_text_is_held_back_only_while_it_may_become_a_stop_string() -> None:
    assembler = TextAssembler(TOKENIZER, ["END"])
    assert run(assembler, TOKENIZER.encode("aENdEND!")) == ["a", "", "", "ENd", "", "", "", "", ""]
    assert assembler.stopped


def test_the_end_gives_out_what_was_held_back() -> None:
    assembler = TextAssembler(TOKENIZER, ["END"])
    assert run(assembler, TOKENIZER.encode("EN!")) == ["", "", "EN!", ""]
    assembler = TextAssembler(TOKENIZER, ["END"])
    assert run(assembler, TOKENIZER.encode("aEN")) == ["a", "", "", "EN"]
    assert not assembler.stopped


def test_an_incomplete_character_at_the_end_is_replaced() -> None:
    assert run(TextAssembler(TOKENIZER), TOKENIZER.encode("a🙂")[:-1]) == ["a", "", "", "", "\ufffd"]


@given(st.lists(st.integers(0, 298), max_size=20))
@example(tokens=[169, 94])  # two bytes that begin half of a surrogate pair, which no character is
def test_offsets_say_in_which_character_a_token_begins(tokens: list[int]) -> None:
    """The character at a token's offset is the one its first byte went into, however broken the text is."""
    assembler = TextAssembler(WORDS)
    text = "".join(run(assembler, tokens))
    for index, offset in enumerate(assembler.offsets):
        before = b"".join(map(WORDS.token_bytes, tokens[:index]))
        first_byte = WORDS.token_bytes(tokens[index])[:1]
        # The last character up to and with that byte, complete or not.
        assert offset == len((before + first_byte).decode(errors="replace")) - 1
        assert text[:offset] == before.decode(errors="replace")[:offset]


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        ("ab", [0, 1]),
        ("é", [0, 0]),
        ("aéb", [0, 1, 1, 2]),
        ("🙂a🙂", [0, 0, 0, 0, 1, 2, 2, 2, 2]),
    ],
)
def test_offsets_inside_characters(text: str, offsets: list[int]) -> None:
    assembler = TextAssembler(TOKENIZER)
    run(assembler, TOKENIZER.encode(text))
    assert assembler.offsets == offsets


def test_a_character_that_is_broken_off_has_an_offset_of_its_own() -> None:
    broken = [TOKENIZER.encode("é")[0], *TOKENIZER.encode("aé")]
    assembler = TextAssembler(TOKENIZER)
    assert "".join(run(assembler, broken)) == "\ufffdaé"
    assert assembler.offsets == [0, 1, 2, 2]


def test_tokens_behind_the_stop_are_not_kept() -> None:
    assembler = TextAssembler(WORDS, ["sea"])
    tokens = WORDS.encode("He said the sea")
    text = "".join(run(assembler, tokens))
    assert text == "He said the "
    kept = tokens[: assembler.kept_tokens]
    # The space before the stop string belongs to a token that holds part of it: that token is kept.
    assert WORDS.decode(kept).startswith(text)
    assert not WORDS.decode(kept[:-1]).startswith(text)


@given(SHORT, STOPS)
def test_of_single_bytes_exactly_those_of_the_output_are_kept(text: str, stops: list[str]) -> None:
    assembler = TextAssembler(TOKENIZER, stops)
    tokens = TOKENIZER.encode(text)
    output = "".join(run(assembler, tokens))
    assert TOKENIZER.decode(tokens[: assembler.kept_tokens]) == output


def test_without_a_stop_all_tokens_are_kept() -> None:
    assembler = TextAssembler(TOKENIZER, ["x"])
    run(assembler, TOKENIZER.encode("é")[:1])
    assert assembler.kept_tokens == 1


def test_nothing_comes_after_the_stop() -> None:
    assembler = TextAssembler(TOKENIZER, ["b"])
    assert run(assembler, TOKENIZER.encode("abab")) == ["a", "", "", "", ""]
    assert len(assembler.offsets) == 2
