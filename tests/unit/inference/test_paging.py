"""How transformers' continuous batching is set up, where its own tests of a backend do not reach."""

import pytest
import torch
from transformers import TemperatureLogitsWarper

from handler.errors import EngineError
from handler.inference.paging import ATTENTION, GreedyOrTemperature, new_manager
from tests.causal_models import CONFIGS, random_model


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_from_what_is_no_number_nothing_is_drawn_for_a_gpu_would_never_recover(bad: float) -> None:
    chooser = GreedyOrTemperature(TemperatureLogitsWarper(0.5))
    temperatures = torch.tensor([1.0, 0.0]).view(torch.int32)
    scores = torch.tensor([[1.0, 3.0, -torch.inf], [1.0, 3.0, 2.0]])
    assert chooser(scores, temperatures).tolist() == [[-2, 0, -torch.inf], [-torch.inf, 0, -torch.inf]]

    scores[1, 0] = bad
    with pytest.raises(EngineError, match="not all finite"):
        chooser(scores, temperatures)


@pytest.mark.cuda
def test_on_a_gpu_everything_is_done_in_order() -> None:
    model = random_model(CONFIGS["gpt2"]).to("cuda")
    model.set_attn_implementation(ATTENTION)
    processor = new_manager(model, blocks=8).batch_processor
    assert processor is not None
    assert processor.inputs_and_outputs.compute_stream is None
