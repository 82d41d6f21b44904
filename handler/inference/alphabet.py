"""How the tokens of a BPE vocabulary write the bytes they stand for.

There are two ways. *Byte-level* vocabularies, such as GPT-2's, write every byte as one of 256 printable characters
(Radford et al. 2019, https://github.com/openai/gpt-2/blob/master/src/encoder.py). Vocabularies in SentencePiece's way,
such as Llama's, write text as it is, a space as U+2581, and have a token <0xNN> for every byte of characters that they
do not know (Kudo and Richardson 2018, https://github.com/google/sentencepiece). Either can write any text.
"""

import json
from collections.abc import Set
from dataclasses import dataclass
from typing import Any, Final, Protocol

import tokenizers

from handler.errors import UnsupportedModelError


def _byte_alphabet() -> dict[str, int]:
    """The byte each character of the alphabet stands for: itself if printable, else the next one from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_ALPHABET: Final = _byte_alphabet()

SPACE: Final = "\u2581"
BYTE_TOKENS: Final = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}

# How a decoder in SentencePiece's way puts text together. With the last step it drops the space before the first word,
# which the tokenizer has put there.
_DECODER: Final = (
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
)
_DROP_FIRST_SPACE: Final = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


class Alphabet(Protocol):
    """What a token, as the vocabulary writes it, stands for."""

    @property
    def drops_first_space(self) -> bool:
        """Whether a text begins with a space that is not part of it."""

    def bytes_of(self, written: str) -> bytes:
        """The bytes of a token."""


class ByteLevel:
    """The way of GPT-2."""

    drops_first_space = False

    def bytes_of(self, written: str) -> bytes:
        """The bytes of a token."""
        return bytes(BYTE_ALPHABET[character] for character in written)


@dataclass(frozen=True, slots=True)
class SentencePiece:
    """The way of SentencePiece."""

    drops_first_space: bool

    def bytes_of(self, written: str) -> bytes:
        """The bytes of a token."""
        return BYTE_TOKENS.get(written) or written.replace(SPACE, " ").encode()


def alphabet_of(tokenizer: tokenizers.Tokenizer, vocabulary: Set[str]) -> Alphabet:
    """The way in which a tokenizer writes its tokens.

    Args:
        tokenizer: as the library has it.
        vocabulary: its tokens; those that were added to it are written as they are.

    Raises:
        UnsupportedModelError: it is neither of the two; the message says what it lacks.
    """
    model, decoder = tokenizer.model, tokenizer.decoder
    tokens = vocabulary - {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    if not isinstance(model, tokenizers.models.BPE):
        raise UnsupportedModelError(f"tokenizer.json: the model must be BPE, given {type(model).__name__!r}")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if getattr(model, key):
            raise UnsupportedModelError(f"tokenizer.json: {key} must be empty, given {getattr(model, key)!r}")
    if isinstance(decoder, tokenizers.decoders.ByteLevel):
        _check_byte_level(tokens)
        return ByteLevel()
    steps = _steps(decoder)
    if not model.byte_fallback or tuple(steps[: len(_DECODER)]) != _DECODER:
        given = None if decoder is None else type(decoder).__name__
        raise UnsupportedModelError(
            f"tokenizer.json: the decoder must be ByteLevel, or that of SentencePiece with a fallback to bytes, "
            f"given {given!r}"
        )
    rest = steps[len(_DECODER) :]
    if rest not in ([], [_DROP_FIRST_SPACE]):
        raise UnsupportedModelError(f"tokenizer.json: the decoder's step {rest[0]!r:.100} is not implemented")
    if missing := sorted(BYTE_TOKENS.keys() - tokens):
        raise UnsupportedModelError(f"tokenizer.json: the vocabulary must have every byte, it lacks {missing[0]}")
    return SentencePiece(drops_first_space=bool(rest))


def _steps(decoder: tokenizers.decoders.Decoder | None) -> list[dict[str, Any]]:
    """The steps of a decoder, as `tokenizer.json` has them."""
    state = json.loads(decoder.__getstate__()) if decoder is not None else {}
    steps: list[dict[str, Any]] = state.get("decoders", [])
    return steps


def _check_byte_level(tokens: Set[str]) -> None:
    """Raise if the tokens are not bytes in GPT-2's alphabet, or do not have every byte."""
    missing = [byte for character, byte in BYTE_ALPHABET.items() if character not in tokens]
    if missing:
        raise UnsupportedModelError(f"tokenizer.json: the vocabulary must have every byte, it lacks {missing[0]:#04x}")
    if not set("".join(tokens)) <= BYTE_ALPHABET.keys():
        token = min(token for token in tokens if not set(token) <= BYTE_ALPHABET.keys())
        raise UnsupportedModelError(f"tokenizer.json: token {token!r} is not written in the byte alphabet")
