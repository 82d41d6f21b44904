"""Batches, as OpenAI's clients know them, in the results bucket.

A batch is an object that is created once, which is what starts it, and another with its state, which is replaced by
compare-and-swap. What has been done lies beside them (see answers.py).
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel

from handler.errors import NoSuchObjectError, StorageUnavailableError
from handler.kept.files import first_found, is_id, keys_after

if TYPE_CHECKING:
    from handler.kept.storage import Storage

Status: TypeAlias = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]

FINAL: frozenset[Status] = frozenset({"failed", "completed", "expired", "cancelled"})

Endpoint: TypeAlias = Literal["/v1/completions", "/v1/chat/completions"]

ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)

# One worker holds the whole file, and all of its answers, in memory.
LARGEST_INPUT = 100_000_000

COMPLETION_SECONDS = 24 * 3600

# An object here starts the batch, or goes on with it: the worker hears of it.
CREATED = "batches/created/"
CONTINUED = "batches/continued/"
_STATES = "batches/states/"
_PARTS = "batches/parts/"

# So often is a state that somebody else replaces meanwhile changed anew.
_ATTEMPTS = 20


class RequestCounts(BaseModel):
    """How many of a batch's requests there are, and how they ended."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchError(BaseModel):
    """Why a batch could not begin."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchErrors(BaseModel):
    """All that is wrong with an input file, as far as it was looked for."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class Batch(BaseModel):
    """A batch; times are in seconds since 1970."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = None
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    metadata: dict[str, str] | None = None

    def now(self, status: Status, **changes: Any) -> "Batch":
        """The batch in another status, from now on."""
        return self.model_copy(update={"status": status, f"{status}_at": int(time.time()), **changes})


class Batches:
    """The batches of one bucket. Every method raises StorageUnavailableError when S3 does not do as it is asked."""

    def __init__(self, storage: "Storage") -> None:
        self.storage = storage

    def create(self, batch: Batch) -> None:
        """Keep a batch, and with that start it; one that exists stays as it is."""
        self.storage.create(f"{CREATED}{batch.id}.json", batch.model_dump_json().encode())

    def go_on(self, batch_id: str, name: str) -> None:
        """Have the worker go on with a batch; `name` tells this time from others."""
        self.storage.create(f"{CONTINUED}{batch_id}/{name}.json", b"{}")

    def get(self, batch_id: str) -> Batch:
        """A batch as it is now.

        Raises:
            NoSuchObjectError: there is no such batch.
        """
        keys = [f"{_STATES}{batch_id}.json", f"{CREATED}{batch_id}.json"] if is_id(batch_id) else []
        data = next((data for data in map(self.storage.read, keys) if data is not None), None)
        if data is None:
            raise NoSuchObjectError("There is no such batch.", param="batch_id")
        return Batch.model_validate_json(data)

    def update(self, batch_id: str, change: Callable[[Batch], Batch]) -> Batch:
        """Replace the state of a batch.

        Args:
            batch_id: the batch.
            change: makes the new state of the current one; asked again when somebody else was faster.

        Returns:
            The batch as it is now.

        Raises:
            NoSuchObjectError: there is no such batch.
        """
        key = f"{_STATES}{batch_id}.json"
        for _ in range(_ATTEMPTS):
            stored = self.storage.fetch(key)
            before = self.get(batch_id) if stored is None else Batch.model_validate_json(stored.data)
            after = change(before)
            if after == before:
                return before
            data = after.model_dump_json().encode()
            if self.storage.create(key, data) if stored is None else self.storage.replace(key, data, stored.etag):
                return after
        raise StorageUnavailableError("The batch is being changed by too many at once.", retry_after=1)

    def listed(self, *, after: str | None, limit: int) -> list[Batch]:
        """At most `limit` batches, the newest first, that come after one of them."""

        def read(key: str) -> Batch:
            return self.get(key.removeprefix(CREATED).removesuffix(".json"))

        return first_found(keys_after(self.storage, CREATED, after, newest_first=True), read, limit)


def parts_of(batch_id: str) -> str:
    """The prefix below which lies what was done of a batch."""
    return f"{_PARTS}{batch_id}/"
