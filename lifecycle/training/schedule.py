"""The learning rate over a run: linear warm-up, then cosine decay."""

import math

_FLOOR = 0.02  # of the peak: the last steps still learn something


def learning_rate(step: int, *, peak: float, warmup: int, steps: int) -> float:
    """The rate of one step: rises linearly to `peak` over `warmup` steps, then falls along half a cosine.

    The cosine is that of Loshchilov & Hutter 2017 (SGDR) without restarts; it ends at 2 % of the peak.

    Args:
        step: the step about to be taken, from 0.
        peak: the highest rate.
        warmup: steps of warm-up, fewer than `steps`.
        steps: steps in the whole run.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))
