"""SnapStart: what is done before a snapshot of the process is taken, and after each time one is restored.

A snapshot is restored many times, and every restored process must be its own: whatever was random is drawn again,
connections and credentials are made anew. Seeds, request ids and names of temporary files come from the operating
system's generator, which a restored machine reseeds itself.
"""

import random
import threading
import time
from contextlib import suppress

from snapshot_restore_py import register_after_restore, register_before_snapshot

from handler.aws import dynamodb, dynamodb_soon, forget_clients
from handler.errors import ServiceError
from handler.loading import ModelLoading
from handler.telemetry import logger

# Initialisation before a snapshot may take fifteen minutes.
LOADING_SECONDS = 600.0


class SnapshotHooks:
    """The hooks of one process."""

    def __init__(self, loading: ModelLoading, *, checks_keys: bool) -> None:
        """Nothing is registered yet.

        Args:
            loading: the model.
            checks_keys: whether requests need DynamoDB's client.
        """
        self._loading = loading
        self._checks_keys = checks_keys

    def register(self) -> None:
        """Have Lambda's runtime call the hooks; without SnapStart it never does."""
        register_before_snapshot(self.before_snapshot)
        register_after_restore(self.after_restore)

    def before_snapshot(self) -> None:
        """See that the snapshot holds the model, warm, and no connection and no thread in the middle of something.

        Without a model to load (a stack's first deployment) it is taken all the same, and requests try again.
        """
        with suppress(ServiceError):
            service = self._loading.wait(time.time() + LOADING_SECONDS)
            service.warm_up()
            service.rest()
        if self._checks_keys:
            dynamodb()  # so that the snapshot has the SDK imported, which takes longer than a client
        forget_clients()

    def after_restore(self) -> None:
        """Become a process of its own.

        Memory comes back from a snapshot page by page, when a page is first touched. A token touches all that matters,
        in the order of its use; it is asked for in the background, and a request that comes meanwhile shares its steps.
        """
        random.seed()
        forget_clients()
        logger.info("restored")
        if self._checks_keys:
            dynamodb_soon()
        threading.Thread(target=self._touch_pages, name="touch pages", daemon=True).start()

    def _touch_pages(self) -> None:
        with suppress(ServiceError):
            self._loading.wait(time.time()).warm_up()
