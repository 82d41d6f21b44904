"""The reference engine on the demo model: what transformers computes, and English rather than any other words."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import GPT2LMHeadModel

from handler.inference.config import ModelConfig
from handler.inference.reference import ReferenceEngine
from handler.inference.tokenizer import Tokenizer
from handler.inference.weights import read_tensors
from tests.transformers_peer import Model, assert_same_greedy_text, close, logits_of, run, take

DEMO = Path(__file__).parents[3] / "lifecycle" / "demo"
PROMPT = "“I do not think,” said Mr. Darcy, “that"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer((DEMO / "tokenizer.json").read_bytes())


@pytest.fixture(scope="module")
def engine() -> ReferenceEngine:
    config = ModelConfig.from_json(json.loads((DEMO / "config.json").read_text()))
    tensors, _ = read_tensors(memoryview((DEMO / "model.safetensors").read_bytes()))
    return ReferenceEngine(config, tensors, kv_cache_bytes=50_000_000, threads=1)


@pytest.fixture(scope="module")
def peer() -> Model:
    model: Model = GPT2LMHeadModel.from_pretrained(DEMO, dtype=torch.float32)
    return model.eval()


def test_logits(engine: ReferenceEngine, peer: Model, tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(PROMPT)
    close(run(engine, tokens), logits_of(peer, tokens))


def test_greedy_text(engine: ReferenceEngine, peer: Model, tokenizer: Tokenizer) -> None:
    assert_same_greedy_text(engine, peer, tokenizer.encode(PROMPT), 60)


def test_prompts_of_a_batch_are_read_as_if_alone(engine: ReferenceEngine, tokenizer: Tokenizer) -> None:
    prompts = [tokenizer.encode(text) for text in (PROMPT, "Chapter", "It was a", PROMPT * 4)]
    alone = [run(engine, prompt)[-1].copy() for prompt in prompts]
    slots = [take(engine) for _ in prompts]
    for logits, expected in zip(engine.prefill(slots, prompts), alone, strict=True):
        close(logits[0], expected)
    for slot in slots:
        engine.release(slot)


def test_the_demo_model_has_learnt_the_language(engine: ReferenceEngine, tokenizer: Tokenizer) -> None:
    """A real sentence is far more probable than its words in another order."""

    def log_probability(text: str) -> float:
        tokens = [tokenizer.end_of_text, *tokenizer.encode(text)]
        scores: npt.NDArray[np.float64] = run(engine, tokens)[:-1].astype(np.float64)
        normalizers = np.logaddexp.reduce(scores, axis=1)
        return float((scores[np.arange(len(scores)), tokens[1:]] - normalizers).sum())

    # Ten nats: e^10 times as probable, more than chance makes of a few words.
    assert log_probability(" He took her hand and said nothing.") > 10 + log_probability(
        " hand nothing her. said took and He"
    )
