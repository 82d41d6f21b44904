"""The model on its way: its bytes are read in the background, from before the application is imported.

Only what the reading itself needs is imported here, and the environment is read as it is: what is wrong with it is said
by the settings, which are looked at meanwhile.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from handler.registry.cache import LocalCache
from handler.registry.loader import LoadedModel, ModelSource
from handler.registry.manifest import Manifest
from handler.stages import ColdStart, before_snapshot

if TYPE_CHECKING:
    from handler.registry.store import AliasState

# Copies of models lie here, in the temporary directory: on Lambda it outlives the process, not the environment.
CACHE_FOLDER = "gpt2-models"

# Writing a copy, or reading the next version, is for later: whoever waits for a token comes first.
_LOW_PRIORITY = 15


class Fetching:
    """Reads the model that an environment names; again, when it is asked for again."""

    def __init__(self, environment: Mapping[str, str], cold_start: ColdStart) -> None:
        """Nothing is read yet.

        Args:
            environment: `MODELS_BUCKET`, `MODEL_NAME`, `MODEL_ALIAS`, `MODEL_PUBLIC_KEY` and `CACHE_MB`, as `Settings`
                has them.
            cold_start: told how far it has come.
        """
        self._source = ModelSource(
            environment.get("MODELS_BUCKET", ""),
            environment.get("MODEL_NAME", ""),
            environment.get("MODEL_ALIAS", "live"),
            _cache(environment),
            environment.get("MODEL_PUBLIC_KEY", ""),
        )
        self._cold_start = cold_start
        self._started: Future[LoadedModel] | None = None
        self._alias: AliasState | None = None

    def start(self, *, quietly: bool = False) -> Future[LoadedModel]:
        """Begin to read; whoever asks for the model then finds as much done as time allowed.

        Args:
            quietly: whether requests that are being answered come first.
        """
        self._started = Future()
        threading.Thread(target=self._run, args=[self._started, quietly], name="fetch model", daemon=True).start()
        return self._started

    def model(self) -> LoadedModel:
        """The model: the one that was started, or else one read from now on.

        Raises:
            RegistryError: it cannot be had; see `ModelSource.load`.
        """
        started = self._started or self.start()
        self._started = None
        return started.result()

    def manifest(self) -> Manifest:
        """The version that the alias points to, of which nothing else is read.

        Raises:
            RegistryError: it cannot be had; see `ModelSource.load`.
        """
        return self._source.manifest()

    def moved_to(self) -> Manifest | None:
        """The version that the alias has moved to since the model was read that serves now, if it has.

        Raises:
            RegistryError: the alias cannot be asked; see `ModelSource.load`.
        """
        return None if self._alias is None else self._source.moved_to(self._alias)

    def keep(self, model: LoadedModel) -> threading.Thread:
        """Leave a copy of the model, which serves from now on, for the next process here; the thread that does."""
        self._alias = model.alias
        thread = threading.Thread(target=self._keep, args=[model], name="keep model", daemon=True)
        thread.start()
        return thread

    def _run(self, future: Future[LoadedModel], quietly: bool) -> None:
        try:
            if quietly:
                _let_others_go_first()  # as do the threads that this one starts
            future.set_result(self._source.load(self._cold_start))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the model hears of it
            future.set_exception(error)

    def _keep(self, model: LoadedModel) -> None:
        _let_others_go_first()
        self._source.keep(model)


def _let_others_go_first() -> None:
    """Give this thread a low priority."""
    if hasattr(os, "setpriority") and hasattr(os, "PRIO_PROCESS"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)  # on Linux, of this thread alone


def _cache(environment: Mapping[str, str]) -> LocalCache | None:
    """Where copies are kept: nowhere without room for them, nor in a snapshot, which has the model in its memory."""
    megabytes = environment.get("CACHE_MB", "0")
    if not megabytes.isdecimal() or megabytes == "0" or before_snapshot(environment):
        return None
    folder = CACHE_FOLDER
    if key := environment.get("MODEL_PUBLIC_KEY"):
        folder += f"-{hashlib.sha256(key.encode()).hexdigest()[:16]}"  # what was kept without this key was not checked
    return LocalCache(Path(environment.get("TMPDIR", "/tmp")) / folder, int(megabytes) * 1_000_000)  # noqa: S108
