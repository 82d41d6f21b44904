"""Perplexity: windows score every token once with enough before it, and the figures are transformers' own."""

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from lifecycle.evaluating.perplexity import Perplexity
from lifecycle.evaluating.windows import sliding_windows
from lifecycle.training.corpus import Book
from lifecycle.training.evaluation import evaluate_book
from lifecycle.training.model import new_model
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.tokenizer import END_OF_TEXT, train_tokenizer

BOOK = Book("café", ("The café was open. " * 9, "Closed."))


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer(BOOK.documents, 270)


@pytest.fixture
def model(tiny: TrainingSettings) -> GPT2LMHeadModel:
    return new_model(tiny, end_of_text=0)


def test_windows_of_a_document() -> None:
    inputs, targets = sliding_windows(np.arange(10, 19), context=4, stride=2)

    assert inputs.tolist() == [[10, 11, 12, 13], [12, 13, 14, 15], [14, 15, 16, 17]]
    assert targets.tolist() == [[11, 12, 13, 14], [-100, -100, 15, 16], [-100, -100, 17, 18]]


@pytest.mark.parametrize("length", range(2, 30))
def test_every_token_but_the_first_is_scored_once_and_with_half_a_context(length: int) -> None:
    inputs, targets = sliding_windows(np.arange(length), context=8, stride=4)

    rows, columns = np.nonzero(targets != -100)
    scored = targets[rows, columns]
    assert sorted(scored.tolist()) == list(range(1, length))
    assert np.array_equal(inputs[rows, columns], scored - 1)
    assert all(column >= 4 for row, column in zip(rows, columns, strict=True) if row)


def test_perplexity_is_that_of_a_direct_computation(model: GPT2LMHeadModel, tokenizer: Tokenizer) -> None:
    """Token by token: transformers predicts each from the very context the sliding window gives it."""
    model.train(mode=False)
    nats = 0.0
    for document in BOOK.documents:
        ids = tokenizer.encode(END_OF_TEXT + document).ids
        for position in range(1, len(ids)):
            # The first window of 16 starts at 0; then a new one starts every 8 tokens and scores its second half.
            start = 0 if position <= 16 else (position - 9) // 8 * 8
            with torch.no_grad():
                logits = model(torch.tensor([ids[start:position]])).logits[0, -1]
            nats -= torch.log_softmax(logits.double(), dim=0)[ids[position]].item()

    figures = evaluate_book(model, tokenizer, BOOK)

    # Sums of a hundred float32 losses against float64.
    assert figures.nats == pytest.approx(nats, rel=1e-6)
    assert (figures.words, figures.bytes) == (37, 9 * 20 + 7)
    assert figures.tokens == sum(len(tokenizer.encode(document).ids) for document in BOOK.documents)


def test_a_model_without_preferences_has_the_vocabulary_as_its_perplexity(
    model: GPT2LMHeadModel, tokenizer: Tokenizer
) -> None:
    with torch.no_grad():
        model.transformer.wte.weight.zero_()

    figures = evaluate_book(model, tokenizer, BOOK).as_json()

    assert figures["perplexity_per_token"] == pytest.approx(300, abs=1e-2)


def test_figures_per_token_word_and_byte() -> None:
    figures = Perplexity(nats=math.log(2) * 24, tokens=12, words=8, bytes=48).as_json()

    assert figures == {
        "perplexity_per_token": 4.0,
        "perplexity_per_word": 8.0,
        "bits_per_byte": 0.5,
        "tokens": 12,
        "words": 8,
        "bytes": 48,
    }


def test_dropout_is_off_while_evaluating(model: GPT2LMHeadModel, tokenizer: Tokenizer) -> None:
    model.train()

    assert evaluate_book(model, tokenizer, BOOK) == evaluate_book(model.train(), tokenizer, BOOK)
