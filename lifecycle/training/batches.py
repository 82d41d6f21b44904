"""Training batches that depend on nothing but the seed and the step, so that a resumed run sees the same ones."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from handler.errors import InvalidRequestError

Ids = npt.NDArray[np.int64]


class Tokens(Protocol):
    """A long row of token ids: an array, or what lies in shards."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, indices: Ids, /) -> Ids:
        """Those at these places, in the same shape."""


class Batches:
    """The training tokens, cut into windows and shuffled anew for every epoch.

    Each epoch starts at another random offset, so that the cuts between windows fall elsewhere each time.

    Attributes:
        per_epoch: batches in one pass over the tokens.
    """

    def __init__(self, tokens: Tokens, *, context: int, batch_size: int, seed: int) -> None:
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
        self._epoch: tuple[int, int, Ids] | None = None

    def at(self, step: int) -> Ids:
        """The batch of a step, (B, T + 1): a window's first T tokens are read, its last T are to be predicted."""
        epoch, batch = divmod(step, self.per_epoch)
        offset, order = self._shuffled(epoch)
        starts = offset + order[batch * self._batch_size :][: self._batch_size] * self._context
        return self._tokens.take(starts[:, None] + np.arange(self._context + 1))

    def _shuffled(self, epoch: int) -> tuple[int, Ids]:
        """The offset of an epoch and the order of its windows; kept, because a large corpus has millions of them."""
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng((self._seed, epoch))
            self._epoch = (epoch, int(rng.integers(self._context)), rng.permutation(self._windows))
        return self._epoch[1:]
