"""An engine beside transformers' own GPT-2: logits within a tolerance, and text token by token.

Logits are compared within 1e-4: both compute in 32 bits, in another order. The tests' logits spread over a few units.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from handler.inference.protocol import FloatArray, StepEngine

Model: TypeAlias = Any  # transformers types its models only in part

TOLERANCE = 1e-4


def logits_of(model: Model, tokens: Sequence[int]) -> FloatArray:
    """transformers' logits after every token, (T, V)."""
    with torch.inference_mode():
        logits: FloatArray = model(torch.tensor([list(tokens)])).logits[0].numpy()
    return logits


def run(engine: StepEngine, tokens: Sequence[int]) -> FloatArray:
    """The engine's logits after every token of one sequence, (T, V), leaving no slot taken."""
    slot = take(engine)
    logits = engine.prefill([slot], [tokens], all_logits=True)[0]
    engine.release(slot)
    return logits


def take(engine: StepEngine) -> int:
    slot = engine.acquire()
    assert slot is not None
    return slot


def close(actual: FloatArray, expected: FloatArray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


def greedy(engine: StepEngine, prompt: Sequence[int], count: int) -> tuple[list[int], list[FloatArray]]:
    """The best continuation, decoded token by token, and the logits each token was taken from."""
    slot = take(engine)
    logits = engine.prefill([slot], [prompt])[0][0].copy()
    tokens, seen = [int(logits.argmax())], [logits]
    while len(tokens) < count:
        logits = engine.decode([slot], tokens[-1:])[0].copy()
        tokens.append(int(logits.argmax()))
        seen.append(logits)
    engine.release(slot)
    return tokens, seen


def assert_same_greedy_text(engine: StepEngine, model: Model, prompt: Sequence[int], count: int) -> None:
    """Equal token by token, up to where the two best logits lie within the tolerance and either may win."""
    tokens, seen = greedy(engine, prompt, count)
    ids = torch.tensor([list(prompt)])
    generated = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=count, max_new_tokens=count
    )
    expected = generated[0, len(prompt) :].tolist()
    for step, (mine, theirs) in enumerate(zip(tokens, expected, strict=True)):
        if mine != theirs:
            best, second = np.sort(seen[step])[[-1, -2]]
            assert best - second < TOLERANCE, f"step {step}: {mine} for {theirs}, and not by a hair"
            return
