"""The state of a run on disk, in one safetensors file replaced atomically: a kill leaves the old one or the new one.

Tensors are the weights that are trained, the best of them so far, and AdamW's moments; everything else is JSON in the
file's metadata. Batches and dropout are functions of seed and step, so the step is all there is to know about data
position and random numbers.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Module

from lifecycle.training.model import load_trained, trained_tensors


@dataclass(slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: steps taken.
        seconds: time spent on them, over all resumptions.
        best_step: after which step the validation loss was lowest so far.
        best_loss: that loss, in nats per token.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_loss: float = float("inf")


def save_state(
    path: Path, model: Module, optimizer: torch.optim.Optimizer, progress: Progress, best: dict[str, Tensor]
) -> None:
    """Write the whole state beside `path`, then move it there.

    Raises:
        OSError: the disk is full, or the folder may not be written to.
    """
    tensors = {f"model.{name}": tensor for name, tensor in trained_tensors(model).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for name, parameter in _trained(model):
        tensors |= {f"optimizer.{key}.{name}": value.cpu() for key, value in optimizer.state[parameter].items()}
    temporary = path.with_suffix(".partial")
    try:
        save_file(tensors, temporary, metadata={"progress": json.dumps(asdict(progress))})
    except SafetensorError as error:  # what the library makes of an error of the operating system
        temporary.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error}") from error
    temporary.replace(path)


def load_state(path: Path, model: Module, optimizer: torch.optim.Optimizer) -> tuple[Progress, dict[str, Tensor]]:
    """Put model and optimizer where they stood; returns how far that was and the best weights so far."""
    with safe_open(path, framework="pt") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        progress = Progress(**json.loads(file.metadata()["progress"]))
    load_trained(model, _under("model.", tensors))
    for key in ("step", "exp_avg", "exp_avg_sq"):
        values = _under(f"optimizer.{key}.", tensors)
        for name, parameter in _trained(model):
            optimizer.state[parameter][key] = values[name].to(parameter.device)
    return progress, _under("best.", tensors)


def _trained(model: Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
