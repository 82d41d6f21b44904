"""The bundled demo model: small, sound, and a writer of English."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

import lifecycle
from lifecycle.checkpoint import read_checkpoint
from lifecycle.training.corpus import Book
from lifecycle.training.evaluation import evaluate_book
from lifecycle.training.tokenizer import END_OF_TEXT

DEMO = Path(lifecycle.__file__).parent / "demo"

# From chapter V of the held-out Alice's Adventures in Wonderland (Lewis Carroll, 1865; public domain).
UNSEEN = (
    "The Caterpillar and Alice looked at each other for some time in silence: at last the Caterpillar took the hookah "
    "out of its mouth, and addressed her in a languid, sleepy voice. 'Who are you?' said the Caterpillar. This was not "
    "an encouraging opening for a conversation. Alice replied, rather shyly, 'I hardly know, sir, just at present; at "
    "least I know who I was when I got up this morning, but I think I must have been changed several times since then.'"
)
# The commonest words of English prose: some two fifths of all the words on any page.
COMMONEST = re.compile(
    r"\b(?:the|of|and|to|a|in|that|he|was|it|his|is|with|as|i|had|for|at|by|on|not|be|from|but|have|you|which|are|her"
    r"|they|she|or|an|were|there|him|all|so|my|said)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DEMO / "tokenizer.json"))


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    model = GPT2LMHeadModel.from_pretrained(DEMO, dtype=torch.float32)
    model.train(mode=False)
    return model


@pytest.fixture(scope="module")
def written(model: Any, tokenizer: Tokenizer) -> str:
    """Twelve pages sampled with a fixed seed, some 1,500 words."""
    torch.manual_seed(0)
    prompt = torch.tensor([[tokenizer.token_to_id(END_OF_TEXT)]] * 12)
    sampling = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 0.95}
    pages = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_length=200, pad_token_id=0, **sampling)
    return "\n".join(tokenizer.decode(page) for page in pages.tolist())


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 12_000_000


def test_it_is_a_checkpoint_that_can_be_published() -> None:
    checkpoint = read_checkpoint(DEMO)

    assert checkpoint.architecture.context_length >= 256
    assert checkpoint.provenance.source.startswith("lifecycle train on ")
    assert checkpoint.provenance.evaluation.keys() == {"chesterton-thursday", "carroll-alice"}


def test_its_card_quotes_the_figures_of_its_provenance() -> None:
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    provenance = json.loads((DEMO / "provenance.json").read_text(encoding="utf-8"))

    for figures in provenance["evaluation"].values():
        assert f"{figures['perplexity_per_word']:,.0f}" in card
        assert f"{figures['perplexity_per_token']:,.1f}" in card
        assert f"{figures['bits_per_byte']:.3f}" in card


def test_it_predicts_english_it_has_never_seen(model: GPT2LMHeadModel, tokenizer: Tokenizer) -> None:
    """Word order is worth a lot to it: the same words the other way round are ten times as surprising."""
    forwards = evaluate_book(model, tokenizer, Book("unseen", (UNSEEN,))).as_json()
    backwards = evaluate_book(model, tokenizer, Book("unseen", (" ".join(reversed(UNSEEN.split())),))).as_json()

    assert forwards["bits_per_byte"] < 2  # gzip takes 5.2 for this passage
    assert backwards["perplexity_per_word"] > 10 * forwards["perplexity_per_word"]


def test_it_writes_sentences_of_english_words(written: str) -> None:
    words = re.findall(r"[A-Za-z]+(?:['-][A-Za-z]+)*", written)
    sentences = re.findall(r"(?<![A-Za-z])[A-Z][^.!?]{10,}[.!?]", written)

    assert len(words) > 1000
    assert len(words) > 0.95 * len(written.split())
    assert 0.3 < len(COMMONEST.findall(written)) / len(words) < 0.6
    assert sum(bool(re.search("[aeiouy]", word.lower())) for word in words) > 0.98 * len(words)
    assert len(sentences) > 20


def test_it_writes_dialogue_and_names(written: str) -> None:
    names = re.findall(
        r"\b(?:Emma|Elinor|Marianne|Anne|Jane|Harriet|Fanny|Edward|Knightley|Weston|Elton|Dashwood|Jennings|Willoughby"
        r"|Ahab|Starbuck|Stubb|Queequeg|Brown|Flambeau|Turnbull|MacIan|Buster|Blacky|Joe)\b",
        written,
    )

    assert written.count('"') > 20
    assert re.search(r'[,!?]" (?:said|cried|asked|replied|answered) ', written)
    assert len(set(names)) >= 3
