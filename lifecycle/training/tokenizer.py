"""A byte-level BPE tokenizer of GPT-2's kind, learned from the training texts."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from handler.errors import InvalidRequestError, UnsupportedModelError
from handler.inference.alphabet import alphabet_of
from handler.inference.tokenizer import library_tokenizer, tokens_before_a_text
from lifecycle.checkpoint import TOKENIZER, read_file
from lifecycle.training.batches import Ids

END_OF_TEXT = "<|endoftext|>"
_SMALLEST_VOCABULARY = 257  # every byte and <|endoftext|>


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Learn a byte-level BPE vocabulary (Sennrich et al. 2016; bytes as in Radford et al. 2019, GPT-2).

    Any text can be encoded, because every byte is a token; `<|endoftext|>` is token 0, a special one.

    Raises:
        InvalidRequestError: the vocabulary cannot even hold the bytes, or the texts do not yield that many tokens.
    """
    if vocabulary_size < _SMALLEST_VOCABULARY:
        raise InvalidRequestError(
            f"vocabulary: must be at least {_SMALLEST_VOCABULARY}, every byte and {END_OF_TEXT}; got {vocabulary_size}",
            param="vocabulary",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocabulary_size:
        raise InvalidRequestError(
            f"vocabulary: the texts are too short for {vocabulary_size} tokens; "
            f"they yield {tokenizer.get_vocab_size()}",
            param="vocabulary",
        )
    return tokenizer


def encode_documents(tokenizer: Tokenizer, documents: Iterable[str]) -> list[Ids]:
    """Token ids of each document, begun by the token that a text begins with, (N,).

    That is the one the tokenizer puts before each text, or else `<|endoftext|>`.

    Raises:
        UnsupportedModelError: there is neither.
    """
    begin = [*tokens_before_a_text(tokenizer), tokenizer.token_to_id(END_OF_TEXT)][0]
    if begin is None:
        raise UnsupportedModelError(f"{TOKENIZER} puts no token before a text, and has no {END_OF_TEXT} to train with")
    encodings = tokenizer.encode_batch_fast(list(documents), add_special_tokens=False)
    return [np.array([begin, *encoding.ids], dtype=np.int64) for encoding in encodings]


def read_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of a checkpoint folder, or of one of token shards.

    Raises:
        CorruptModelError: it is missing or damaged.
        UnsupportedModelError: it is of a kind that is not implemented.
    """
    tokenizer = library_tokenizer(read_file(path))
    alphabet_of(tokenizer, tokenizer.get_vocab().keys())
    return tokenizer


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """A tokenizer as `tokenizer.json` holds it."""
    return str(tokenizer.to_str(pretty=True)).encode()
