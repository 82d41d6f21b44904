"""From text to token ids and back, for BPE tokenizers over bytes, such as those of GPT-2 and Llama.

Every token of such a tokenizer is a run of bytes; how its vocabulary writes them, alphabet.py says. A character of the
text may be spread over several tokens, so tokens have bytes, and only runs of them have text.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import tokenizers

from handler.errors import ContextLengthExceededError, CorruptModelError, InvalidRequestError, UnsupportedModelError
from handler.inference.alphabet import alphabet_of

END_OF_TEXT: Final = "<|endoftext|>"

# No context is as long. To list more, or to free what the library notes of so many, takes milliseconds in which no
# other thread can run.
MOST_TOKENS: Final = 32_768
MOST_BYTES: Final = 8 * MOST_TOKENS

# The library would start a thread for each processor, for one text at a time; they are the engine's.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def ends_named_in(*documents: Mapping[str, Any]) -> tuple[int, ...]:
    """The tokens that `generation_config.json` and `config.json` say a text ends with, each once, in their order."""
    named = [document.get("eos_token_id") for document in documents]
    ids = [id_ for ends in named for id_ in (ends if isinstance(ends, list) else [ends])]
    return tuple(dict.fromkeys(id_ for id_ in ids if type(id_) is int))


def library_tokenizer(data: bytes) -> tokenizers.Tokenizer:
    """A tokenizer as the library has it, which takes every text as it is.

    Raises:
        CorruptModelError: it cannot be read.
    """
    try:
        tokenizer: tokenizers.Tokenizer = tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises nothing more exact
        raise CorruptModelError(f"tokenizer.json: {error}") from error
    # A file may ask for both; a text is never cut or filled up in silence.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokens_before_a_text(tokenizer: tokenizers.Tokenizer) -> list[int]:
    """What a tokenizer puts before each text; what it puts behind is none of ours, because texts go on.

    Raises:
        UnsupportedModelError: it is more than one token.
    """
    bare, whole = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    before: list[int] = next(whole[:i] for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    if len(before) > 1:
        raise UnsupportedModelError(f"tokenizer.json: at most one token may be put before a text, given {before}")
    return before


class Tokenizer:
    """A BPE tokenizer over bytes, read from a `tokenizer.json`; it may be used from any thread.

    Attributes:
        end_of_text: the token that ends a text: `<|endoftext|>`, or where there is none, the first that the model's
            configuration names.
        ends: that token, and any other that the configuration names.
        begin_of_text: the token that a text begins with: the one the tokenizer puts before each, or else `end_of_text`.
        adds_begin: whether it puts it before each.
        drops_first_space: whether a text's tokens begin with a space that is not part of it.
        vocabulary_size: token ids run from 0 to this number less one.
    """

    def __init__(self, data: bytes, ends: Sequence[int] = ()) -> None:
        """Read a tokenizer.

        Args:
            data: the content of a `tokenizer.json`.
            ends: the tokens that the model's configuration says a text ends with.

        Raises:
            CorruptModelError: it cannot be read.
            UnsupportedModelError: it is not BPE over bytes, or there is no end-of-text token.
        """
        self._tokenizer = library_tokenizer(data)
        added = {id_: token.content for id_, token in self._tokenizer.get_added_tokens_decoder().items()}
        vocabulary = self._tokenizer.get_vocab()
        self.vocabulary_size: int = max(vocabulary.values(), default=-1) + 1
        self._alphabet = alphabet_of(self._tokenizer, vocabulary.keys())
        self.drops_first_space = self._alphabet.drops_first_space
        found = [id_ for id_, content in added.items() if content == END_OF_TEXT]
        every = [*found, *(id_ for id_ in ends if 0 <= id_ < self.vocabulary_size)]
        if not every:
            raise UnsupportedModelError(
                f"tokenizer.json: {END_OF_TEXT} must be among the added tokens, or config.json name an eos_token_id"
            )
        self.end_of_text: int = every[0]
        self.ends = frozenset(every)
        before = tokens_before_a_text(self._tokenizer)
        self.adds_begin = bool(before)
        self.begin_of_text: int = before[0] if before else self.end_of_text
        # The bytes of the tokens met so far: working all 50,000 out would take a tenth of a cold start.
        self._bytes = {id_: content.encode() for id_, content in added.items()}

    def encode(self, text: str, param: str = "prompt", *, continues: bool = False) -> list[int]:
        """The token ids of a text; a literal `<|endoftext|>` in it is that token, and nothing is put around it.

        Args:
            text: the text.
            param: the request's field it comes from, for errors.
            continues: whether it goes on from another text: a space that it begins with is not put there twice.

        Raises:
            InvalidRequestError: the text has half of a surrogate pair, so it is not Unicode text.
            ContextLengthExceededError: it is longer than any context.
        """
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                f"`{param}` must be valid Unicode; given: the lone surrogate U+{ord(text[error.start]):04X} "
                f"at position {error.start}.",
                param=param,
            ) from error
        if size > MOST_BYTES:
            raise ContextLengthExceededError(
                f"`{param}` may have at most {MOST_BYTES} bytes; given: {size}.", param=param
            )
        if continues and self.drops_first_space:
            text = text.removeprefix(" ")
        encoding = self._encoding(text)
        if len(encoding) > MOST_TOKENS:
            raise ContextLengthExceededError(
                f"`{param}` may have at most {MOST_TOKENS} tokens; given: {len(encoding)}.", param=param
            )
        return encoding.ids

    def encode_document(self, text: str) -> list[int]:
        """The token ids of a text of any length, which must be Unicode: for whoever reads it window by window."""
        return self._encoding(text).ids

    def _encoding(self, text: str) -> tokenizers.Encoding:
        # Encoding one text by itself would hold Python's lock all the while: seconds, for a megabyte.
        [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return encoding

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token; none for an id that the model has but the vocabulary has not."""
        data = self._bytes.get(token)
        if data is None:
            written = self._tokenizer.id_to_token(token) or ""
            data = self._bytes[token] = self._alphabet.bytes_of(written)
        return data

    def token_text(self, token: int) -> str:
        r"""The text of a token, or `bytes:\xNN...` where it is part of a character, as OpenAI's API writes it."""
        data = self.token_bytes(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of some tokens; bytes that are no character become U+FFFD."""
        data = b"".join(map(self.token_bytes, tokens))
        return (data.removeprefix(b" ") if self.drops_first_space else data).decode(errors="replace")
