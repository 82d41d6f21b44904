"""The training loop: steps, periodic evaluation, the state to resume from, the log and the progress bar."""

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from torch import Tensor

from lifecycle.training.batches import Batches, Ids
from lifecycle.training.curve import read_log
from lifecycle.training.evaluation import total_loss
from lifecycle.training.model import new_optimizer, next_token_loss, trained_tensors
from lifecycle.training.run_folder import RunFolder
from lifecycle.training.schedule import learning_rate
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.state import Progress, load_state, save_state
from lifecycle.training.world import World

_LOG_EVERY = 10  # steps whose mean training loss makes one line of the log
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def fit(
    model: torch.nn.Module,
    batches: Batches,
    validation: Ids,
    settings: TrainingSettings,
    *,
    run: RunFolder,
    world: World,
) -> tuple[Progress, dict[str, Tensor]]:
    """Take the steps that are left of a run.

    Args:
        model: the model, freshly initialised; it is put where the run's state left it.
        batches: what to train on.
        validation: windows to evaluate on, (W, T + 1).
        settings: the run's settings.
        run: where the run's state and log are kept.
        world: the processes that share the work.

    Returns:
        Where the run ended, and the trained tensors of its best evaluation.
    """
    if settings.recompute:
        model.activation_checkpointing_enable()  # type: ignore[operator]  # transformers' own
    optimizer = new_optimizer(model, settings.weight_decay)
    progress, best = Progress(), trained_tensors(model)
    if run.state.exists():
        progress, best = load_state(run.state, model, optimizer)
    world.wait()  # nobody replaces the state before everybody has read it
    if world.is_first:
        _truncate_log(run.log, progress.step)
    before, losses, started = progress.seconds, [], time.monotonic()
    stepper = _Stepper(model, optimizer, batches, settings, world)
    with (
        ProgressBar(*_COLUMNS, console=Console(stderr=True), disable=not world.is_first) as bar,
        run.log.open("a", encoding="utf-8", buffering=1) as log,
    ):
        task = bar.add_task("training", total=settings.steps, completed=progress.step)
        while progress.step < settings.steps and not _is_stuck(progress, settings):
            loss, norm, rate = stepper.take(progress.step)
            losses.append(loss)
            progress.step += 1
            progress.seconds = before + time.monotonic() - started
            bar.update(task, completed=progress.step)
            evaluating = progress.step % settings.eval_every == 0 or progress.step == settings.steps
            if progress.step % _LOG_EVERY and not evaluating:
                continue
            line = {"step": progress.step, "training_loss": sum(losses) / len(losses)}
            line |= {"learning_rate": rate, "gradient_norm": norm}
            losses = []
            if evaluating:
                mine = validation[world.rank :: world.size]
                nats = world.sum(total_loss(model, mine[:, :-1], mine[:, 1:]))
                line["validation_loss"] = nats / validation[:, 1:].size
                if line["validation_loss"] < progress.best_loss:
                    progress.best_step, progress.best_loss = progress.step, line["validation_loss"]
                    best = trained_tensors(model)
            if world.is_first:
                # Logged before it is saved: what the log has beyond the state is dropped when the run resumes.
                log.write(json.dumps(line) + "\n")
                if evaluating:
                    save_state(run.state, model, optimizer, progress, best)
                    run.keep()
            bar.update(task, description=f"loss {line['training_loss']:.3f}, validation {progress.best_loss:.3f}")
    return progress, best


class _Stepper:
    """Takes the steps of a run, each a function of its number alone."""

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        settings: TrainingSettings,
        world: World,
    ) -> None:
        self._model, self._shared = model, world.shared(model)
        self._optimizer, self._batches, self._settings, self._world = optimizer, batches, settings, world
        self._parts = settings.micro_batches(world.size)

    def take(self, step: int) -> tuple[float, float, float]:
        """Take one step; returns the batch's loss, its gradient's norm before clipping, and the learning rate."""
        settings, world = self._settings, self._world
        rate = learning_rate(step, peak=settings.learning_rate, warmup=settings.warmup, steps=settings.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._model.train()
        parts = np.split(self._batches.at(step), self._parts)  # (b, T + 1) each
        total = 0.0
        for number in range(world.rank, self._parts, world.size):
            # Dropout drawn anew from seed, step and part: the state of the generator need not be saved, and it is
            # the same for however many processes.
            torch.manual_seed(int(np.random.SeedSequence((settings.seed, step, number)).generate_state(1)[0]))
            batch = torch.from_numpy(parts[number]).to(world.device)
            is_last = number + world.size >= self._parts
            with self._unshared() if not is_last else nullcontext():
                with torch.autocast(world.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                    loss = next_token_loss(self._shared, batch[:, :-1], batch[:, 1:]) / self._parts
                # The gradients of the processes are averaged, and are wanted as a sum.
                torch.autograd.backward(loss * world.size)
            total += loss.item()
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(trained, settings.clip, error_if_nonfinite=True)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return world.sum(total), norm.item(), rate

    def _unshared(self) -> Any:
        """While gradients of several parts add up, the processes need not exchange them."""
        return self._shared.no_sync() if self._world.size > 1 else nullcontext()  # type: ignore[operator]


def _is_stuck(progress: Progress, settings: TrainingSettings) -> bool:
    """Whether so many evaluations have passed without a lower loss that the run may stop."""
    return bool(settings.patience) and progress.step - progress.best_step >= settings.patience * settings.eval_every


def _truncate_log(path: Path, step: int) -> None:
    """Drop what was logged after the saved state: those steps are about to be taken again."""
    if path.exists():
        kept = [line for line in read_log(path) if line["step"] <= step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
