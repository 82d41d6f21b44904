"""Perplexity on held-out books while the model is in training, through transformers and in torch."""

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from lifecycle.evaluating.perplexity import Perplexity
from lifecycle.evaluating.windows import IGNORED, LONGEST_WINDOW, sliding_windows
from lifecycle.training.batches import Ids
from lifecycle.training.corpus import Book
from lifecycle.training.model import next_token_loss
from lifecycle.training.tokenizer import encode_documents

_BATCH = 16  # windows scored at once


def evaluate_book(model: PreTrainedModel, tokenizer: Tokenizer, book: Book) -> Perplexity:
    """Score a book, every document from the token on that begins a text, with a window that slides by half the context.

    Only the first token of a document is predicted from that token alone; from half a context on, every token
    has at least half a context before it.
    """
    context = min(model.config.max_position_embeddings, LONGEST_WINDOW)
    windows = [sliding_windows(ids, context, context // 2) for ids in encode_documents(tokenizer, book.documents)]
    inputs, targets = (np.concatenate(rows) for rows in zip(*windows, strict=True))
    return Perplexity(
        nats=total_loss(model, inputs, targets),
        tokens=int((targets != IGNORED).sum()),
        words=sum(len(document.split()) for document in book.documents),
        bytes=sum(len(document.encode()) for document in book.documents),
    )


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
