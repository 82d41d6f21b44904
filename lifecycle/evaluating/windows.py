"""Windows that slide over a document, so that every token is predicted once, and none without what came before it."""

from typing import Final

import numpy as np

from lifecycle.training.batches import Ids

IGNORED: Final = -100  # a target that is not scored; torch's cross_entropy knows it by this number


# Models of other architectures may have contexts a hundred times as long; to read whole ones would take days.
LONGEST_WINDOW: Final = 2048


def sliding_windows(ids: Ids, context: int, stride: int) -> tuple[Ids, Ids]:
    """Cut one document into overlapping windows in which every token but the first is a target exactly once.

    Args:
        ids: the document's token ids with its `<|endoftext|>` in front, (N,).
        context: width of a window (T).
        stride: how far each window starts after the one before, at most `context`.

    Returns:
        Inputs and targets, (W, T) each; targets that an earlier window has already scored, and padding, are -100.
    """
    starts = range(0, max(1, len(ids) - 1 - context + stride), stride)
    inputs = np.zeros((len(starts), context), dtype=np.int64)
    targets = np.full((len(starts), context), IGNORED, dtype=np.int64)
    for row, start in enumerate(starts):
        window = ids[start : start + context + 1]
        inputs[row, : len(window) - 1] = window[:-1]
        scored = context - stride if row else 0
        targets[row, scored : len(window) - 1] = window[1 + scored :]
    return inputs, targets
