"""Perplexity on held-out books: per token, per word and, as bits per byte, whatever the tokenizer."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from lifecycle.training.batches import Ids
from lifecycle.training.corpus import Book
from lifecycle.training.model import next_token_loss
from lifecycle.training.tokenizer import encode_documents

_IGNORED = -100  # cross_entropy's ignore_index
_BATCH = 16  # windows scored at once


@dataclass(frozen=True, slots=True)
class Perplexity:
    """How well a model predicts a text; the text itself decides words and bytes, the tokenizer only tokens.

    Attributes:
        nats: negative log-likelihood of the whole text, natural logarithm.
        tokens: tokens predicted.
        words: words of the text, as white space separates them.
        bytes: size of the text in UTF-8.
    """

    nats: float
    tokens: int
    words: int
    bytes: int

    def as_json(self) -> dict[str, float | int]:
        """The figures as they are reported."""
        return {
            "perplexity_per_token": round(math.exp(self.nats / self.tokens), 3),
            "perplexity_per_word": round(math.exp(self.nats / self.words), 2),
            "bits_per_byte": round(self.nats / math.log(2) / self.bytes, 4),
            "tokens": self.tokens,
            "words": self.words,
            "bytes": self.bytes,
        }


def evaluate_book(model: GPT2LMHeadModel, tokenizer: Tokenizer, book: Book) -> Perplexity:
    """Score a book, every document from its `<|endoftext|>` on, with a window that slides by half the context.

    Only the first token of a document is predicted from `<|endoftext|>` alone; from half a context on, every token
    has at least half a context before it.
    """
    context = model.config.n_positions
    windows = [sliding_windows(ids, context, context // 2) for ids in encode_documents(tokenizer, book.documents)]
    inputs, targets = (np.concatenate(rows) for rows in zip(*windows, strict=True))
    return Perplexity(
        nats=total_loss(model, inputs, targets),
        tokens=int((targets != _IGNORED).sum()),
        words=sum(len(document.split()) for document in book.documents),
        bytes=sum(len(document.encode()) for document in book.documents),
    )


def sliding_windows(ids: Ids, context: int, stride: int) -> tuple[Ids, Ids]:
    """Cut one document into overlapping windows in which every token but the first is a target exactly once.

    Args:
        ids: the document's token ids with its `<|endoftext|>` in front, (N,).
        context: width of a window (T).
        stride: how far each window starts after the one before, at most `context`.

    Returns:
        Inputs and targets, (W, T) each; targets that an earlier window has already scored, and padding, are -100.
    """
    starts = range(0, max(1, len(ids) - 1 - context + stride), stride)
    inputs = np.zeros((len(starts), context), dtype=np.int64)
    targets = np.full((len(starts), context), _IGNORED, dtype=np.int64)
    for row, start in enumerate(starts):
        window = ids[start : start + context + 1]
        inputs[row, : len(window) - 1] = window[:-1]
        scored = context - stride if row else 0
        targets[row, scored : len(window) - 1] = window[1 + scored :]
    return inputs, targets


@torch.inference_mode()
def total_loss(model: torch.nn.Module, inputs: Ids, targets: Ids) -> float:
    """Negative log-likelihood of all targets together, in nats, without dropout and in the model's own precision."""
    model.train(mode=False)
    device, total = next(model.parameters()).device, 0.0
    for start in range(0, len(inputs), _BATCH):
        batch = slice(start, start + _BATCH)
        rows, following = (torch.from_numpy(ids[batch]).to(device) for ids in (inputs, targets))
        total += next_token_loss(model, rows, following, "sum").item()
    return total
