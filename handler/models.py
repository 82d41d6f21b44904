"""The models of a process: the one it is there for, a canary of it, and others that requests may name.

The first is loaded at the start and stays. The others are loaded when somebody asks for them, and let go of when memory
is needed, the one unused the longest first. A canary is loaded in the background and answers its share of the requests
when it is there; until then, or if it cannot be had, the version that is live answers them.
"""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Final

from handler.errors import RegistryError, ServiceError, UnknownModelError
from handler.fetching import Fetching
from handler.loading import Following, ModelLoading, load_service, wait_until_gone
from handler.measures import Completed
from handler.memory import Memory
from handler.registry.manifest import Manifest
from handler.service import TextService
from handler.settings import Settings
from handler.stages import ColdStart
from handler.telemetry import log_completion

CANARY: Final = "canary"


class Models(ModelLoading):
    """The models of one process; itself it is the loading of the first."""

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        fetching: Fetching,
        fetching_of: Callable[[str, str], Fetching],
        load: Callable[[Fetching], TextService],
    ) -> None:
        """Nothing is loaded yet.

        Args:
            settings: which models there are, and how they are followed.
            memory: what they may take.
            fetching: of the first model, perhaps begun.
            fetching_of: of any other one, by name and alias.
            load: puts an engine behind a model that is being fetched.
        """
        super().__init__(partial(load, fetching), self._following_of(settings, fetching))
        self._settings = settings
        self._memory = memory
        self._fetching_of = fetching_of
        self._load_from = load
        self._one_at_a_time = threading.Lock()  # so that two that are loaded do not count on the same room
        self._open = threading.Lock()
        self._others: OrderedDict[str, ModelLoading] = OrderedDict()  # the one used last is last
        self._canary = self._loading_of(settings.model_name, CANARY) if settings.canary_percent else None

    def wait(self, deadline: float | None, model: str | None = None, caller: str = "") -> TextService:
        """The service of the model that is asked for; see `ModelLoading.wait`.

        Args:
            deadline: how long to wait, on the clock of `time.time()`.
            model: the model, None for the first.
            caller: any text; the same text always belongs to the same share of the requests. Without one it is live's.

        Raises:
            UnknownModelError: the model is none of those served here.
            ModelLoadingError: it was not ready in time.
            RegistryError: it cannot be had.
        """
        if model in (None, self._settings.model_name):
            return self._canary_for(caller) or super().wait(deadline)
        if model not in self._settings.other_models:
            names = [repr(name) for name in (self._settings.model_name, *self._settings.other_models)]
            served = f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} served here"
            raise UnknownModelError(f"`model`: {served}; given: {model[:64]!r}.", param="model")
        with self._open:
            if model not in self._others:
                self._others[model] = self._loading_of(model, self._settings.model_alias)
            self._others.move_to_end(model)
            loading = self._others[model]
        return loading.wait(deadline)

    def manifests(self, deadline: float | None) -> list[Manifest]:
        """What is served here: of a model that is not loaded, what would be; one that cannot be had is left out."""
        found = super().manifests(deadline)
        for name in self._settings.other_models:
            loading = self._others.get(name)
            if loading and (service := loading.service):
                found.append(service.model)
            else:
                with suppress(RegistryError):
                    found.append(self._fetching_of(name, self._settings.model_alias).manifest())
        return found

    def services(self) -> list[TextService]:
        """What is loaded now, of all models."""
        with self._open:
            others = [self._canary, *self._others.values()]
        return super().services() + [service for loading in others if loading for service in loading.services()]

    def _canary_for(self, caller: str) -> TextService | None:
        """The canary, if this caller is among its share and it is ready; the first of them has it loaded."""
        canary = self._canary
        if canary is None or not caller or share_of(caller) >= self._settings.canary_percent:
            return None
        canary.start()
        if canary.service is not None:
            with suppress(ServiceError):  # it has just been let go of, for a newer one
                return canary.wait(0)
        return None

    def _loading_of(self, name: str, alias: str) -> ModelLoading:
        fetching = self._fetching_of(name, alias)

        def load() -> TextService:
            with self._one_at_a_time:
                self._make_room(fetching.manifest(), evict=alias != CANARY)
                return self._load_from(fetching)

        return ModelLoading(load, self._following_of(self._settings, fetching))

    def _following_of(self, settings: Settings, fetching: Fetching) -> Following:
        return Following(
            seconds=settings.refresh_seconds,
            moved_to=fetching.moved_to,
            fits=lambda newer: self._memory.fits([*(service.model for service in self.services()), newer]),
            begin=lambda: fetching.start(quietly=True),
        )

    def _make_room(self, manifest: Manifest, *, evict: bool) -> None:
        """Let go of models until this one fits.

        Raises:
            RegistryError: it does not, whatever is let go of.
        """
        while not self._memory.fits([*(service.model for service in self.services()), manifest]):
            with self._open:
                idle = (
                    next((name for name, loading in self._others.items() if loading.service), None) if evict else None
                )
                evicted = None if idle is None else self._others.pop(idle).service
            if evicted is None:
                raise RegistryError(
                    f"{manifest.name} {manifest.version} does not fit into memory beside what is loaded"
                )
            evicted.retire()
            reference = weakref.ref(evicted)
            del evicted
            wait_until_gone(reference)


def share_of(caller: str) -> float:
    """Where a caller lies between 0 and 100: evenly spread, and always in the same place."""
    return int.from_bytes(sha256(caller.encode()).digest()[:4], "big") / 2**32 * 100


def models_of(
    settings: Settings,
    environment: Mapping[str, str],
    fetching: Fetching,
    cold_start: ColdStart,
    completed: Completed = log_completion,
) -> Models:
    """The models of this process's environment; the first is being fetched, or about to be.

    Args:
        settings: what they are, and how they are served.
        environment: what they are fetched by.
        fetching: of the first one.
        cold_start: told how far it has come.
        completed: told of each completion.
    """

    def fetching_of(name: str, alias: str) -> Fetching:
        # A disk has room for one copy, which is the first model's.
        return Fetching({**environment, "MODEL_NAME": name, "MODEL_ALIAS": alias, "CACHE_MB": "0"}, ColdStart())

    memory = Memory.of(settings, os.environ)
    load = partial(load_service, settings, cold_start=cold_start, completed=completed)
    return Models(settings, memory, fetching, fetching_of, load)
