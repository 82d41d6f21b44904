"""The model in training against transformers' own arithmetic, and the names its weights are kept under."""

import dataclasses

import pytest
import torch
from transformers import GPT2LMHeadModel

from handler.inference.config import ModelConfig
from lifecycle.training.model import checkpoint_config, load_tensors, named_tensors, new_model, new_optimizer
from lifecycle.training.model import next_token_loss as loss_of
from lifecycle.training.settings import TrainingSettings


@pytest.fixture
def model(tiny: TrainingSettings) -> GPT2LMHeadModel:
    model = new_model(tiny, end_of_text=0)
    model.train(mode=False)
    return model


def test_the_loss_is_that_of_transformers(model: GPT2LMHeadModel) -> None:
    batch = torch.randint(0, 300, (3, 17), generator=torch.Generator().manual_seed(1))

    ours = loss_of(model, batch[:, :-1], batch[:, 1:])

    # Given labels, transformers shifts them itself and scores all but the last input. Both are float32 means over 45
    # targets near 5.8 nats, where one rounding is 5e-7.
    theirs = model(batch[:, :16], labels=batch[:, :16]).loss
    first_fifteen = loss_of(model, batch[:, :15], batch[:, 1:16])
    assert first_fifteen.item() == pytest.approx(theirs.item(), abs=1e-5)
    assert ours.item() != pytest.approx(theirs.item(), abs=1e-5)


def test_targets_of_minus_100_count_for_nothing(model: GPT2LMHeadModel) -> None:
    batch = torch.randint(0, 300, (2, 17), generator=torch.Generator().manual_seed(1))
    masked = batch[:, 1:].clone()
    masked[1] = -100

    assert torch.equal(
        loss_of(model, batch[:, :-1], masked, "sum"), loss_of(model, batch[:1, :-1], batch[:1, 1:], "sum")
    )


def test_the_seed_decides_the_weights(tiny: TrainingSettings) -> None:
    first, again, other = (
        new_model(dataclasses.replace(tiny, seed=seed), end_of_text=0).transformer.wte.weight for seed in (1, 1, 2)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_matrices_decay(model: GPT2LMHeadModel) -> None:
    decaying, spared = new_optimizer(model, weight_decay=0.1).param_groups

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decaying["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {names[id(p)].rsplit(".", 1)[1] for p in decaying["params"]} == {"weight"}
    assert {names[id(p)].split(".")[-2:][0][:2] for p in spared["params"]} == {"ln", "c_"}
    assert len(decaying["params"]) + len(spared["params"]) == len(names)


def test_weights_are_named_as_the_original_files_name_them(model: GPT2LMHeadModel, tiny: TrainingSettings) -> None:
    config = ModelConfig.from_json(checkpoint_config(model, "float32"))

    assert {name: tuple(tensor.shape) for name, tensor in named_tensors(model).items()} == config.tensor_shapes()


def test_named_tensors_are_copies_that_can_be_put_back(model: GPT2LMHeadModel) -> None:
    kept = named_tensors(model)
    weight = model.transformer.wte.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.zero_()

    load_tensors(model, kept)

    assert torch.equal(weight, before)


def test_the_activation_in_training_is_the_one_the_checkpoint_names(model: GPT2LMHeadModel) -> None:
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 1001)
    trained = ACT2FN[model.config.activation_function]
    named = ACT2FN[str(checkpoint_config(model, "float32")["activation_function"])]

    # The same formula in another order of float32 operations, on values up to 6.
    assert torch.allclose(trained(x), named(x), rtol=0, atol=2e-6)
