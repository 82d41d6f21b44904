"""The model of this process: loaded once, in the background, while everything else starts.

Lambda gives an environment ten seconds to initialise. A load that takes longer simply goes on: requests wait for it
within their deadlines, and the first one finds as much done as time allowed. A load that failed is tried again by the
next request, so an environment recovers by itself once a model is published or the store answers again.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from handler.chat.renderer import Renderer
from handler.chat.template import ChatTemplate
from handler.errors import ModelLoadingError, RegistryError
from handler.fetching import Fetching
from handler.inference.build import build_backend
from handler.service import TextService
from handler.settings import Settings
from handler.stages import ColdStart
from handler.telemetry import logger

# A failed load is tried again, but not more often than this.
RETRY_SECONDS = 5.0

# How long a request without a deadline (under uvicorn) waits for the model.
PATIENCE_SECONDS = 60.0


class ModelLoading:
    """Starts a load once, and hands its result to whoever waits."""

    def __init__(self, load: Callable[[], TextService]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._future: Future[TextService] | None = None
        self._failed_at = 0.0

    def start(self) -> Future[TextService]:
        """Start loading unless it has been started; start again if it failed a while ago."""
        with self._lock:
            failed = self._future is not None and self._future.done() and self._future.exception() is not None
            if self._future is None or (failed and time.monotonic() - self._failed_at >= RETRY_SECONDS):
                self._future = Future()
                threading.Thread(target=self._run, args=(self._future,), name="load model", daemon=True).start()
            return self._future

    def wait(self, deadline: float | None) -> TextService:
        """The service, as soon as it is ready.

        Args:
            deadline: how long to wait, on the clock of `time.time()`.

        Raises:
            ModelLoadingError: it was not ready in time.
            RegistryError: the model cannot be had.
        """
        future = self.start()
        patience = PATIENCE_SECONDS if deadline is None else max(0.0, deadline - time.time())
        try:
            return future.result(patience)
        except TimeoutError:
            raise ModelLoadingError("The model is still being loaded.", retry_after=int(RETRY_SECONDS)) from None
        except RegistryError as error:
            # Its words name buckets and keys, which are the operator's to know and not every client's.
            raise RegistryError(
                "The model cannot be loaded; the service's log says why.", retry_after=int(RETRY_SECONDS)
            ) from error

    def _run(self, future: Future[TextService]) -> None:
        started = time.monotonic()
        try:
            service = self._load()
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            logger.error("model not loaded", error=type(error).__name__, reason=str(error))
            self._failed_at = time.monotonic()
            future.set_exception(error)
        else:
            logger.info(
                "model loaded",
                model=service.model.name,
                version=service.model.version,
                engine=service.engine,
                seconds=round(time.monotonic() - started, 3),
            )
            future.set_result(service)


def load_service(settings: Settings, fetching: Fetching, cold_start: ColdStart) -> TextService:
    """Put the engine that the settings name behind the model that is being fetched."""
    model = fetching.model()
    tokenizer, backend = build_backend(
        model.files, engine=settings.engine, kv_cache_mb=settings.kv_cache_mb, threads=settings.threads
    )
    cold_start.reached("ready")
    fetching.keep(model)
    template = ChatTemplate.of(model.files, Renderer())
    return TextService(model.manifest, tokenizer, backend, settings, chat_template=template, cold_start=cold_start)
