"""The model of this process: loaded in the background while everything else starts, and renewed when its alias moves.

Lambda gives an environment ten seconds to initialise. A load that takes longer simply goes on: requests wait for it
within their deadlines, and the first one finds as much done as time allowed. A load that failed is tried again by the
next request, so an environment recovers by itself once a model is published or the store answers again.

A request that comes a while after the last look at the alias has it looked at again, beside it. If it has moved, the
new version is loaded while the old one goes on answering, and takes its place between two requests: a request is
answered by the version it began with. Where there is no memory for both, the old one is let go of first, when its
requests are answered, and those that come meanwhile wait as they do for a first load. To end the process instead would
do the same at a higher price: Lambda logs an exit as an error (Runtime.ExitError), fails the invocation it falls into
(a frozen environment wakes up in the next one), and bills a whole initialisation.
"""

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from handler.chat.renderer import Renderer
from handler.chat.template import ChatTemplate
from handler.errors import ModelLoadingError, RegistryError
from handler.fetching import Fetching
from handler.inference.build import build_backend
from handler.measures import Completed
from handler.registry.manifest import Manifest
from handler.service import TextService
from handler.settings import Settings
from handler.stages import ColdStart, boot_time
from handler.telemetry import log_completion, logger

# A failed load is tried again, but not more often than this.
RETRY_SECONDS = 5.0

# How long a request without a deadline (under uvicorn) waits for the model.
PATIENCE_SECONDS = 60.0

# A version that cannot be loaded is tried again at growing intervals, up to this.
MAX_PAUSE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Following:
    """How a process follows its alias.

    Attributes:
        seconds: at least so long between two looks; 0 never looks.
        moved_to: the version the alias has moved to since the last load, or None.
        fits: whether that version fits into memory beside what is there.
        begin: begin to read it, without being in anybody's way.
    """

    seconds: float
    moved_to: Callable[[], Manifest | None]
    fits: Callable[[Manifest], bool]
    begin: Callable[[], object]


class ModelLoading:
    """Starts a load once, hands its result to whoever waits, and renews it when there is a newer version."""

    def __init__(self, load: Callable[[], TextService], following: Following | None = None) -> None:
        """Nothing is loaded yet.

        Args:
            load: loads the version that the alias points to.
            following: how to follow the alias; by default not at all.
        """
        self._load = load
        self._following = following
        self._lock = threading.Lock()
        self._future: Future[TextService] | None = None
        self._failed_at = 0.0
        self._look_at = 0.0  # when to look at the alias next, on the clock of boot_time()
        self._failures = 0

    def manifests(self, deadline: float | None) -> list[Manifest]:
        """What is served here; raises what `wait` raises."""
        return [self.wait(deadline).model]

    def services(self) -> list[TextService]:
        """What is loaded now."""
        service = self.service
        return [] if service is None else [service]

    @property
    def service(self) -> TextService | None:
        """The service, if it is ready now."""
        future = self._future
        return future.result() if future and future.done() and future.exception() is None else None

    def start(self) -> Future[TextService]:
        """Start loading unless it has been started; start again if it failed a while ago."""
        with self._lock:
            failed = self._future is not None and self._future.done() and self._future.exception() is not None
            if self._future is None or (failed and time.monotonic() - self._failed_at >= RETRY_SECONDS):
                self._future = Future()
                threading.Thread(target=self._run, args=(self._future,), name="load model", daemon=True).start()
            return self._future

    def wait(self, deadline: float | None, model: str | None = None, caller: str = "") -> TextService:
        """The service, as soon as it is ready.

        Args:
            deadline: how long to wait, on the clock of `time.time()`.
            model: the model that is asked for, None for any. Here there is one, and whoever asks for another gets it,
                too, and is told by `check_model`.
            caller: whose request it is: to `Models` it says which share of the requests this one belongs to.

        Raises:
            ModelLoadingError: it was not ready in time.
            RegistryError: the model cannot be had.
        """
        del model, caller
        future = self.start()
        patience = PATIENCE_SECONDS if deadline is None else max(0.0, deadline - time.time())
        try:
            service = future.result(patience)
        except TimeoutError:
            raise ModelLoadingError("The model is still being loaded.", retry_after=int(RETRY_SECONDS)) from None
        except RegistryError as error:
            # Its words name buckets and keys, which are the operator's to know and not every client's.
            raise RegistryError(
                "The model cannot be loaded; the service's log says why.", retry_after=int(RETRY_SECONDS)
            ) from error
        self._look_if_due()
        return service

    def _run(self, future: Future[TextService]) -> None:
        try:
            service = self._loaded()
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            self._failed_at = time.monotonic()
            future.set_exception(error)
        else:
            future.set_result(service)

    def _loaded(self) -> TextService:
        """Load, and say in the log how it went."""
        started = time.monotonic()
        try:
            service = self._load()
        except Exception as error:
            logger.error("model not loaded", error=type(error).__name__, reason=str(error))
            raise
        logger.info(
            "model loaded",
            model=service.model.name,
            version=service.model.version,
            engine=service.engine,
            seconds=round(time.monotonic() - started, 3),
        )
        self._look_at = boot_time() + (self._following.seconds if self._following else 0)
        return service

    def _look_if_due(self) -> None:
        """Look at the alias on a thread of its own, if the last look is long enough ago."""
        following = self._following
        if following is None or following.seconds == 0:
            return
        with self._lock:
            if boot_time() < self._look_at:
                return
            self._look_at = float("inf")
        threading.Thread(target=self._look, args=[following], name="follow alias", daemon=True).start()

    def _look(self, following: Following) -> None:
        """Renew the model if the alias has moved; whatever goes wrong, the old version stays where there is one."""
        try:
            newer = following.moved_to()
            if newer is not None:
                self._renew(following, newer)
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and there is a next time
            self._failures += 1
            logger.warning("alias not followed", error=type(error).__name__, reason=str(error))
        self._look_at = boot_time() + min(following.seconds * 2**self._failures, MAX_PAUSE_SECONDS)

    def _renew(self, following: Following, newer: Manifest) -> None:
        old = self.service
        if old is None:  # it is being loaded, or about to be
            return
        if following.fits(newer):
            following.begin()
            service = self._loaded()
            self._future = _done(service)
            old.retire()
        else:
            future: Future[TextService] = Future()
            self._future = future
            old.retire()
            reference = weakref.ref(old)
            del old
            wait_until_gone(reference)
            self._run(future)


def wait_until_gone(service: weakref.ref[TextService]) -> None:
    """Wait until no request has a service any more, and its memory is free with it; not for ever."""
    end = time.monotonic() + PATIENCE_SECONDS
    while service() is not None and time.monotonic() < end:
        time.sleep(0.01)


def _done(service: TextService) -> Future[TextService]:
    future: Future[TextService] = Future()
    future.set_result(service)
    return future


def load_service(
    settings: Settings, fetching: Fetching, cold_start: ColdStart, completed: Completed = log_completion
) -> TextService:
    """Put the engine that the settings name behind the model that is being fetched."""
    model = fetching.model()
    tokenizer, backend = build_backend(
        model.files,
        engine=settings.engine,
        kv_cache_mb=settings.kv_cache_mb,
        threads=settings.threads,
        device=settings.device,
        context_limit=settings.max_prompt_tokens + settings.max_tokens,
    )
    cold_start.reached("ready")
    fetching.keep(model)
    template = ChatTemplate.of(model.files, Renderer())
    return TextService(
        model.manifest,
        tokenizer,
        backend,
        settings,
        chat_template=template,
        cold_start=cold_start,
        completed=completed,
    )
