"""The training loop: steps, periodic evaluation, the state to resume from, the log and the progress bar."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from torch import Tensor
from transformers import GPT2LMHeadModel

from lifecycle.training.batches import Batches, Ids
from lifecycle.training.curve import read_log
from lifecycle.training.evaluation import total_loss
from lifecycle.training.model import named_tensors, new_optimizer, next_token_loss
from lifecycle.training.schedule import learning_rate
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.state import Progress, load_state, save_state

STATE, LOG = "state.safetensors", "log.jsonl"
_LOG_EVERY = 10  # steps whose mean training loss makes one line of the log
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def fit(
    model: GPT2LMHeadModel, batches: Batches, validation: Ids, settings: TrainingSettings, run: Path
) -> tuple[Progress, dict[str, Tensor]]:
    """Take the steps that are left of a run.

    Args:
        model: the model, freshly initialised; it is put where the run's state left it.
        batches: what to train on.
        validation: windows to evaluate on, (W, T + 1).
        settings: the run's settings.
        run: the folder of the run's state and log.

    Returns:
        Where the run ended, and the weights of its best evaluation.
    """
    optimizer = new_optimizer(model, settings.weight_decay)
    progress, best = Progress(), named_tensors(model)
    if (run / STATE).exists():
        progress, best = load_state(run / STATE, model, optimizer)
    _truncate_log(run / LOG, progress.step)
    before, losses, started = progress.seconds, [], time.monotonic()
    with (
        ProgressBar(*_COLUMNS, console=Console(stderr=True)) as bar,
        (run / LOG).open("a", encoding="utf-8", buffering=1) as log,
    ):
        task = bar.add_task("training", total=settings.steps, completed=progress.step)
        while progress.step < settings.steps:
            loss, norm, rate = _take_step(model, optimizer, batches, settings, progress.step)
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
                loss = total_loss(model, validation[:, :-1], validation[:, 1:]) / validation[:, 1:].size
                line["validation_loss"] = loss
                if loss < progress.best_loss:
                    progress.best_step, progress.best_loss = progress.step, loss
                    best = named_tensors(model)
            # Logged before it is saved: what the log has beyond the state is dropped when the run resumes.
            log.write(json.dumps(line) + "\n")
            if evaluating:
                save_state(run / STATE, model, optimizer, progress, best)
            bar.update(task, description=f"loss {line['training_loss']:.3f}, validation {progress.best_loss:.3f}")
    return progress, best


def _take_step(
    model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, batches: Batches, settings: TrainingSettings, step: int
) -> tuple[float, float, float]:
    """Take one step; returns the batch's loss, the norm of its gradient before clipping and the learning rate."""
    rate = learning_rate(step, peak=settings.learning_rate, warmup=settings.warmup, steps=settings.steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    # Dropout drawn anew from seed and step: the state of the generator need not be saved.
    torch.manual_seed(int(np.random.SeedSequence((settings.seed, step)).generate_state(1)[0]))
    model.train()
    batch = torch.from_numpy(batches.at(step))  # (B, T + 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        loss = next_token_loss(model, batch[:, :-1], batch[:, 1:])
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip, error_if_nonfinite=True)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item(), norm.item(), rate


def _truncate_log(path: Path, step: int) -> None:
    """Drop what was logged after the saved state: those steps are about to be taken again."""
    if path.exists():
        kept = [line for line in read_log(path) if line["step"] <= step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
