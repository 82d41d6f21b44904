"""Where the events' results are kept: the bucket, whose client is made when it is first needed."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handler.kept.storage import Storage


class ResultsBucket:
    """The results bucket by its name; from any thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._made: Storage | None = None
        self._making = threading.Lock()

    @property
    def storage(self) -> "Storage":
        """What is in it, read and written.

        Raises:
            StorageUnavailableError: no bucket is named.
        """
        from handler.kept.storage import storage_of  # noqa: PLC0415 - boto3 takes 0.2 s, and HTTP does without it

        with self._making:
            if self._made is None:
                self._made = storage_of(self.name)
            return self._made
