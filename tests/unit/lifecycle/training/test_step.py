"""One step against torch's own: transformers' loss and gradient, AdamW's first step, and every way to cut a batch."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from lifecycle.training.batches import Batches
from lifecycle.training.loop import fit
from lifecycle.training.model import new_model, new_optimizer, next_token_loss, trained_tensors
from lifecycle.training.run_folder import RunFolder
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.world import World

TOKENS = np.random.default_rng(5).integers(300, size=2000)
ALONE = World(0, 1, torch.device("cpu"))

Fit = Callable[[TrainingSettings], GPT2LMHeadModel]


@pytest.fixture
def fitted(tmp_path: Path) -> Fit:
    """Train a new model on random tokens, and hand it out as the last step left it."""

    def go(settings: TrainingSettings) -> GPT2LMHeadModel:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        model = new_model(settings, end_of_text=0)
        batches = Batches(TOKENS, context=settings.context, batch_size=settings.batch_size, seed=settings.seed)
        fit(model, batches, TOKENS[None, :17], settings, run=RunFolder(folder), world=ALONE)
        return model

    return go


def transformers_loss(model: GPT2LMHeadModel, batch: Tensor) -> Tensor:
    """The loss that transformers itself takes of windows of T + 1 tokens, (B, T + 1)."""
    inputs, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
    loss: Tensor = model(inputs, labels=inputs, shift_labels=targets).loss
    return loss


def test_the_gradient_is_that_of_transformers_own_loss(tiny: TrainingSettings) -> None:
    settings = dataclasses.replace(tiny, dropout=0.0)
    batch = torch.from_numpy(TOKENS[:68].reshape(4, 17))
    ours, theirs = new_model(settings, end_of_text=0), new_model(settings, end_of_text=0)

    loss, expected = next_token_loss(ours, batch[:, :-1], batch[:, 1:]), transformers_loss(theirs, batch)
    torch.autograd.backward(loss)
    torch.autograd.backward(expected)

    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)

    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        # The same sums in another order, relative to the largest entry of each tensor; float32 has seven digits.
        scale = other.grad.abs().max().item()
        assert (mine.grad - other.grad).abs().max().item() <= 1e-4 * max(scale, 1e-3), name


def test_the_first_step_is_adamw_as_published(tiny: TrainingSettings, fitted: Fit) -> None:
    """By hand: where moments begin at zero, the bias-corrected step is the gradient over its own absolute value."""
    settings = dataclasses.replace(tiny, steps=1, warmup=0, dropout=0.0, clip=1e9, learning_rate=1e-3)
    before = new_model(settings, end_of_text=0)
    batch = torch.from_numpy(Batches(TOKENS, context=16, batch_size=4, seed=0).at(0))
    torch.autograd.backward(transformers_loss(before, batch))

    after = dict(fitted(settings).named_parameters())

    for name, parameter in before.named_parameters():
        assert parameter.grad is not None
        decay = 0.1 if parameter.dim() >= 2 else 0.0
        gradient = parameter.grad.double()
        expected = parameter.double() * (1 - 1e-3 * decay) - 1e-3 * gradient / (gradient.abs() + 1e-8)
        # Where a gradient is as small as Adam's epsilon of 1e-8, its rounding decides; elsewhere the step is exact.
        certain = gradient.abs() > 1e-6
        assert certain.float().mean() > 0.5, name
        difference = (after[name].double() - expected).abs()[certain]
        assert difference.max().item() < 2e-6, name


def test_the_first_step_is_that_of_torchs_own_optimizer(tiny: TrainingSettings, fitted: Fit) -> None:
    """The plain, unfused AdamW of torch, fed by transformers' own loss."""
    settings = dataclasses.replace(tiny, steps=1, warmup=0, dropout=0.0)
    model = new_model(settings, end_of_text=0)
    decaying, spared = new_optimizer(model, settings.weight_decay).param_groups
    optimizer = torch.optim.AdamW(
        [{"params": decaying["params"], "weight_decay": 0.1}, {"params": spared["params"], "weight_decay": 0.0}],
        lr=settings.learning_rate, betas=(0.9, 0.995), fused=False, foreach=False,
    )  # fmt: skip
    batch = torch.from_numpy(Batches(TOKENS, context=16, batch_size=4, seed=0).at(0))
    torch.autograd.backward(transformers_loss(model, batch))
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()

    ours = fitted(settings)

    for (name, mine), (_, theirs) in zip(ours.named_parameters(), model.named_parameters(), strict=True):
        # A step is 2.5e-3 long; gradients near Adam's epsilon turn their rounding into a part of that.
        assert (mine - theirs).abs().mean().item() < 1e-6, name


@pytest.mark.parametrize("changes", [{"micro_batch": 1}, {"micro_batch": 2}, {"recompute": True}])
def test_however_a_batch_is_computed_the_weights_are_the_same(
    changes: dict[str, Any], tiny: TrainingSettings, fitted: Fit
) -> None:
    """Parts of a batch, and activations computed anew, change nothing but the order of sums."""
    settings = dataclasses.replace(tiny, dropout=0.0, steps=6)

    whole, other = (trained_tensors(fitted(s)) for s in (settings, dataclasses.replace(settings, **changes)))

    for name, tensor in whole.items():
        assert (other[name] - tensor).abs().mean().item() < 1e-5, name


def test_recomputing_keeps_the_dropout(tiny: TrainingSettings, fitted: Fit) -> None:
    settings = dataclasses.replace(tiny, dropout=0.3)

    plain, again = (trained_tensors(fitted(dataclasses.replace(settings, recompute=flag))) for flag in (False, True))

    assert all(torch.allclose(tensor, again[name], atol=1e-6) for name, tensor in plain.items())


@pytest.mark.parametrize(
    ("changes", "processes", "parts"),
    [({}, 1, 1), ({}, 2, 2), ({"micro_batch": 1}, 2, 4), ({"micro_batch": 4}, 1, 1), ({"micro_batch": 2}, 2, 2)],
)
def test_parts_of_a_batch(changes: dict[str, Any], processes: int, parts: int, tiny: TrainingSettings) -> None:
    assert dataclasses.replace(tiny, **changes).micro_batches(processes) == parts
