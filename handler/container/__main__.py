"""`python -m handler.container`: serves the model of this process's environment until SIGTERM, and exits with 0."""

import os
import sys

from handler.container.metrics import Metrics
from handler.container.process import Container
from handler.container.settings import ContainerSettings
from handler.errors import InvalidSettingsError
from handler.fetching import Fetching
from handler.models import models_of
from handler.stages import cold_start


def main() -> None:
    """Serve the model that the environment names."""
    try:
        settings = ContainerSettings.from_environment(os.environ)
    except InvalidSettingsError as error:
        sys.exit(error.message)
    metrics = Metrics()
    fetching = Fetching(os.environ, cold_start)
    fetching.start()
    loading = models_of(settings, os.environ, fetching, cold_start, metrics.completed)
    loading.start()
    Container(settings, loading, metrics).run()


if __name__ == "__main__":
    main()
