"""Training batches that depend on nothing but the seed and the step, so that a resumed run sees the same ones."""

import numpy as np
import numpy.typing as npt

from handler.errors import InvalidRequestError

Ids = npt.NDArray[np.int64]


class Batches:
    """The training tokens, cut into windows and shuffled anew for every epoch.

    Each epoch starts at another random offset, so that the cuts between windows fall elsewhere each time.

    Attributes:
        per_epoch: batches in one pass over the tokens.
    """

    def __init__(self, tokens: Ids, *, context: int, batch_size: int, seed: int) -> None:
        """Prepare windows of `context` tokens and the one that follows.

        Raises:
            InvalidRequestError: the tokens do not fill one batch, whatever the offset.
        """
        # One window less than fits, so that there are as many at every offset.
        windows = (len(tokens) - 1) // context - 1
        if windows < batch_size:
            raise InvalidRequestError(
                f"texts: one batch takes {batch_size} windows of {context} tokens; "
                f"the training texts hold {len(tokens)} tokens, enough for {max(windows, 0)}",
                param="texts",
            )
        self.per_epoch = windows // batch_size
        self._tokens, self._context, self._batch_size, self._seed = tokens, context, batch_size, seed
        self._windows = windows

    def at(self, step: int) -> Ids:
        """The batch of a step, (B, T + 1): a window's first T tokens are read, its last T are to be predicted."""
        epoch, batch = divmod(step, self.per_epoch)
        rng = np.random.default_rng((self._seed, epoch))
        offset = rng.integers(self._context)
        order = rng.permutation(self._windows)[batch * self._batch_size :][: self._batch_size]
        starts = offset + order * self._context
        return np.take(self._tokens, starts[:, None] + np.arange(self._context + 1))
