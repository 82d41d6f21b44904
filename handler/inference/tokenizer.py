"""From text to token ids and back, for byte-level BPE tokenizers such as GPT-2's.

Every token of such a tokenizer is a run of bytes, written in its vocabulary in an alphabet of 256 printable
characters (Radford et al. 2019, https://github.com/openai/gpt-2/blob/master/src/encoder.py). A character of the text
may be spread over several tokens, so tokens have bytes, and only runs of them have text.
"""

import os
from collections.abc import Collection, Iterable
from typing import Final

import tokenizers

from handler.errors import ContextLengthExceededError, CorruptModelError, InvalidRequestError, UnsupportedModelError

END_OF_TEXT: Final = "<|endoftext|>"

# No context is as long. To list more, or to free what the library notes of so many, takes milliseconds in which no
# other thread can run.
MOST_TOKENS: Final = 32_768
MOST_BYTES: Final = 8 * MOST_TOKENS

# The library would start a thread for each processor, for one text at a time; they are the engine's.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _byte_alphabet() -> dict[str, int]:
    """The byte each character of the alphabet stands for: itself if printable, else the next one from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_ALPHABET: Final = _byte_alphabet()


class Tokenizer:
    """A byte-level BPE tokenizer, read from a `tokenizer.json`; it may be used from any thread."""

    def __init__(self, data: bytes) -> None:
        """Read a tokenizer.

        Args:
            data: the content of a `tokenizer.json`.

        Raises:
            CorruptModelError: it cannot be read.
            UnsupportedModelError: it is not byte-level BPE with an end-of-text token.
        """
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises nothing more exact
            raise CorruptModelError(f"tokenizer.json: {error}") from error
        # A file may ask for both; a prompt is never cut or filled up in silence.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = {id_: token.content for id_, token in self._tokenizer.get_added_tokens_decoder().items()}
        ends = [id_ for id_, content in added.items() if content == END_OF_TEXT]
        if not ends:
            raise UnsupportedModelError(f"tokenizer.json: {END_OF_TEXT} must be among the added tokens")
        self.end_of_text: int = ends[0]
        vocabulary = self._tokenizer.get_vocab()
        self.vocabulary_size: int = max(vocabulary.values()) + 1
        _refuse_other_kinds(self._tokenizer, vocabulary.keys() - set(added.values()))
        # The bytes of the tokens met so far: working all 50,000 out would take a tenth of a cold start.
        self._bytes = {id_: content.encode() for id_, content in added.items()}

    def encode(self, text: str, param: str = "prompt") -> list[int]:
        """The token ids of a text; a literal `<|endoftext|>` in it is that token.

        Args:
            text: the text.
            param: the request's field it comes from, for errors.

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
        # Encoding one text by itself would hold Python's lock all the while: seconds, for a megabyte.
        [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        if len(encoding) > MOST_TOKENS:
            raise ContextLengthExceededError(
                f"`{param}` may have at most {MOST_TOKENS} tokens; given: {len(encoding)}.", param=param
            )
        return encoding.ids

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token; none for an id that the model has but the vocabulary has not."""
        data = self._bytes.get(token)
        if data is None:
            written = self._tokenizer.id_to_token(token) or ""
            data = self._bytes[token] = bytes(BYTE_ALPHABET[character] for character in written)
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
        return b"".join(map(self.token_bytes, tokens)).decode(errors="replace")


def _refuse_other_kinds(tokenizer: tokenizers.Tokenizer, tokens: Collection[str]) -> None:
    """Raise if the tokens of a tokenizer, all but the added ones, are not bytes in GPT-2's alphabet."""
    model, decoder = tokenizer.model, tokenizer.decoder
    if not isinstance(model, tokenizers.models.BPE):
        raise UnsupportedModelError(f"tokenizer.json: the model must be BPE, given {type(model).__name__!r}")
    if not isinstance(decoder, tokenizers.decoders.ByteLevel):
        given = None if decoder is None else type(decoder).__name__
        raise UnsupportedModelError(f"tokenizer.json: the decoder must be ByteLevel, given {given!r}")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if getattr(model, key):
            raise UnsupportedModelError(f"tokenizer.json: {key} must be empty, given {getattr(model, key)!r}")
    missing = [byte for character, byte in BYTE_ALPHABET.items() if character not in tokens]
    if missing:
        raise UnsupportedModelError(f"tokenizer.json: the vocabulary must have every byte, it lacks {missing[0]:#04x}")
    if not set("".join(tokens)) <= BYTE_ALPHABET.keys():
        token = min(token for token in tokens if not set(token) <= BYTE_ALPHABET.keys())
        raise UnsupportedModelError(f"tokenizer.json: token {token!r} is not written in the byte alphabet")
