"""The processes of a run: one, or several that `torchrun` started, each of which takes its part of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from handler.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of the run.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: what it computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def sum(self, value: float) -> float:
        """The sum of what the processes have, the same for all of them."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.item()

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            torch.distributed.barrier()

    def shared(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model, such that the gradients of all processes are averaged in each; on its own device already."""
        return model if self.size == 1 else DistributedDataParallel(model)


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started with this one, or be the only one.

    Args:
        device: "cpu", "cuda", or "auto" for a GPU where there is one.

    Raises:
        InvalidRequestError: there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidRequestError("device: cuda was asked for, and torch finds no GPU here", param="device")
    # https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    place = torch.device("cpu")
    if device != "cpu" and torch.cuda.is_available():
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    if size == 1:
        yield World(0, 1, place)
        return
    torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(rank, size, place)
    finally:
        torch.distributed.destroy_process_group()
