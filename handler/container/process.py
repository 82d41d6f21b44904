"""The container's process: what serves HTTP, what takes messages, what is measured, and how all of it ends together."""

import os
import threading
import time
from typing import Final, NoReturn

from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers

from handler.app import create_app, spare_the_event_loop
from handler.container.metrics import Metrics, MetricsMiddleware
from handler.container.queue_worker import QueueWorker
from handler.container.request_queue import RequestQueue
from handler.container.server import ContainerServer
from handler.container.settings import ContainerSettings
from handler.events.messages import MessageWorker
from handler.events.s3 import S3Adapter
from handler.events.sending import Sender
from handler.events.sqs import SqsAdapter
from handler.loading import ModelLoading
from handler.telemetry import log_in_flight, logger
from handler.work.background import Background

# The exit status of a process that had to leave something unfinished.
CUT_OFF: Final = 1

# How often CloudWatch is told how many requests are worked on, by which containers are added and taken away.
REPORT_SECONDS: Final = 30.0


class Container:
    """Serves a model that is being loaded, or is already."""

    def __init__(self, settings: ContainerSettings, loading: ModelLoading, metrics: Metrics) -> None:
        """Put everything together; nothing is begun yet.

        Args:
            settings: the settings.
            loading: the model.
            metrics: where it counts; the model's completions are counted there by whoever loads it.
        """
        self._settings = settings
        self._metrics = metrics
        self._worker = _queue_worker(settings, loading, metrics) if settings.request_queue_url else None
        # Where there is a queue, whoever fills it tells of batches and jobs, too.
        background = None if self._worker else Background(loading, settings.results_bucket)
        app = create_app(settings, loading, background)
        app.add_middleware(MetricsMiddleware, metrics=metrics)
        self._server = ContainerServer(app, settings, self._drain)
        metrics.watch(loading.services, self._messages_in_flight)

    def run(self) -> NoReturn:
        """Serve until SIGTERM or SIGINT has come and everything under way is finished, and end the process."""
        # What uvicorn and boto3 have to complain of is JSON, too.
        copy_config_to_registered_loggers(logger, log_level="WARNING")
        if self._settings.metrics_port:
            self._metrics.serve(self._settings.host, self._settings.metrics_port)
        if self._settings.service_name:
            threading.Thread(target=self._report, name="report", daemon=True).start()
        if self._worker:
            self._worker.start()
        spare_the_event_loop()
        self._server.run()
        if self._worker:
            self._worker.finish()
        # At once: a thread that still loads a model would be stopped inside torch, which aborts the process.
        os._exit(0)

    def _drain(self) -> None:
        if self._worker:
            self._worker.stop()
        timer = threading.Timer(self._settings.drain_seconds, self._cut_off)
        timer.daemon = True
        timer.start()

    def _cut_off(self) -> None:
        """End although something is under way: its threads, which nobody can stop, would keep the process."""
        logger.error("cut off", requests=self._metrics.requests_in_flight, messages=self._messages_in_flight())
        try:
            if self._worker:
                self._worker.give_back()
        finally:
            os._exit(CUT_OFF)

    def _report(self) -> None:
        while True:
            log_in_flight(self._metrics.requests_in_flight + self._messages_in_flight())
            time.sleep(REPORT_SECONDS)

    def _messages_in_flight(self) -> int:
        return self._worker.in_flight if self._worker else 0


def _queue_worker(settings: ContainerSettings, loading: ModelLoading, metrics: Metrics) -> QueueWorker:
    """What takes the queue's messages, and answers them with the code that does so in Lambda."""
    sender = Sender()
    messages = MessageWorker(loading, sender, settings.results_bucket)
    adapter = SqsAdapter(messages, S3Adapter(loading, sender, settings.results_bucket), sender)
    return QueueWorker(RequestQueue(settings.request_queue_url), adapter, loading, metrics.settled)
