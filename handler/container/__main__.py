"""`python -m handler.container`: serves the model of this process's environment until SIGTERM, and exits with 0."""

import os
import sys
import threading
from typing import Final

from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers

from handler.app import create_app, spare_the_event_loop
from handler.container.server import ContainerServer
from handler.container.settings import ContainerSettings
from handler.fetching import Fetching
from handler.loading import ModelLoading
from handler.models import models_of
from handler.stages import cold_start
from handler.telemetry import logger
from handler.work.background import Background

# The exit status of a process that had to leave something unfinished.
CUT_OFF: Final = 1


def main() -> int:
    """Serve the model that the environment names, and return the exit status."""
    settings = ContainerSettings.from_environment(os.environ)
    fetching = Fetching(os.environ, cold_start)
    fetching.start()
    loading = models_of(settings, os.environ, fetching, cold_start)
    loading.start()
    return serve(settings, loading)


def serve(settings: ContainerSettings, loading: ModelLoading) -> int:
    """Serve a model that is being loaded, or is already, until SIGTERM; the exit status."""
    # Where there is a queue, whoever fills it tells of batches and jobs, too.
    background = None if settings.request_queue_url else Background(loading, settings.results_bucket)
    app = create_app(settings, loading, background)

    def end_in_time() -> None:
        timer = threading.Timer(settings.drain_seconds, _cut_off)
        timer.daemon = True
        timer.start()

    server = ContainerServer(app, settings, end_in_time)
    copy_config_to_registered_loggers(logger, include={"uvicorn"}, log_level="WARNING")
    spare_the_event_loop()
    server.run()
    return 0


def _cut_off() -> None:
    """End although something is under way: its threads, which nobody can stop, would keep the process."""
    logger.error("cut off")
    os._exit(CUT_OFF)


if __name__ == "__main__":
    sys.exit(main())
