"""What tests of training ask of a run: its log, and an interruption at a certain step."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_pre_hook


def log_of(out: Path) -> list[dict[str, float]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (out / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@contextmanager
def interrupted(steps: int) -> Iterator[None]:
    """Whoever takes more steps than these is interrupted before the next one counts."""
    left = iter(range(steps))

    def count(*_: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    hook = register_optimizer_step_pre_hook(count)
    try:
        yield
    finally:
        hook.remove()
