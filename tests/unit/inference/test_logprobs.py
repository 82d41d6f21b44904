"""Log probabilities of tokens, held against torch."""

import numpy as np
import pytest
import torch

from handler.inference.sampling import logprobs_of
from tests.models import random_logits

VOCABULARY = 2000  # that of random logits


@pytest.mark.parametrize("top", [0, 1, 5, VOCABULARY, VOCABULARY + 5])
def test_logprobs_are_those_of_the_softmax(top: int) -> None:
    """Within 1e-7 of torch in 64 bits: the sum over the vocabulary is made of numbers of 32 bits."""
    logits = random_logits(1)
    expected = torch.log_softmax(torch.from_numpy(logits).double(), -1)
    scores = logprobs_of(logits, 17, top)
    assert scores.token == 17
    assert scores.logprob == pytest.approx(expected[17].item(), abs=1e-7)
    assert [token for token, _ in scores.top] == expected.argsort(descending=True)[:top].tolist()
    assert [p for _, p in scores.top] == pytest.approx([expected[token].item() for token, _ in scores.top], abs=1e-7)
    # A mean over the vocabulary of numbers of 32 bits.
    assert scores.entropy == pytest.approx(-(expected.exp() * expected).sum().item(), abs=1e-5)


def test_a_token_has_one_logprob_wherever_it_stands() -> None:
    logits = random_logits(2)
    best = int(logits.argmax())
    scores = logprobs_of(logits, best, 3)
    assert scores.top[0] == (best, scores.logprob)


def test_certainty_has_no_entropy() -> None:
    assert logprobs_of(np.array([0, 500, 0], np.float32), 0, 0).entropy == 0


def test_of_equals_the_lowest_ids_are_listed() -> None:
    scores = logprobs_of(np.array([0, 1, 1, 1, 2], np.float32), 0, 3)
    assert [token for token, _ in scores.top] == [4, 1, 2]
