"""What Prometheus is told of a container: requests, tokens, times, and how full the running batch is.

What is measured of a completion has the names that the log and CloudWatch have for it, with `gpt2_` before them and the
unit behind. No label holds anything a client could make up: models and routes are those that are served.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handler.api.authorization import is_open
from handler.inference.protocol import Load
from handler.measures import CompletionMeasures
from handler.registry.manifest import Manifest
from handler.telemetry import log_completion

# Of a request that was refused before it was known what it asks for, or that asks for nothing there is.
NO_ROUTE: Final = "none"

# The client went away before its answer began: nginx's status.
_CLIENT_GONE: Final = 499

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STEPS: Final = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
_CHOICES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# Figures of `CompletionMeasures`: what Prometheus calls each, its meaning, its buckets.
_FIGURES: Final[dict[str, tuple[str, str, Sequence[float]]]] = {
    "seconds": ("gpt2_seconds", "From a request to its end", _SECONDS),
    "queue_seconds": ("gpt2_queue_seconds", "From a request to its place in the running batch", _SECONDS),
    "time_to_first_token": ("gpt2_time_to_first_token_seconds", "From a request to its first token", _SECONDS),
    "time_between_tokens": ("gpt2_time_between_tokens_seconds", "From token to token, a request's mean", _STEPS),
    "batch_size": ("gpt2_batch_size", "Choices in the running batch once a request's were added", _CHOICES),
}


class Served(Protocol):
    """A model that is served; `TextService` is one."""

    model: Manifest

    def load(self) -> Load:
        """How busy its engine is."""


class Metrics:
    """The figures of one process, in a registry of their own.

    Attributes:
        registry: what Prometheus is shown.
        requests_in_flight: the requests that are worked on or waiting, those to open paths left out.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests_in_flight = 0
        self._requests = self._counter("gpt2_requests", "Requests, by route and status", "route", "status")
        self._prompt_tokens = self._counter("gpt2_prompt_tokens", "Tokens read", "model")
        self._completion_tokens = self._counter("gpt2_completion_tokens", "Tokens written", "model")
        self._messages = self._counter("gpt2_messages", "Messages, `done` or `returned` to the queue", "outcome")
        self._figures = {
            figure: Histogram(name, meaning, ["model"], registry=self.registry, buckets=buckets)
            for figure, (name, meaning, buckets) in _FIGURES.items()
        }
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def serve(self, host: str, port: int) -> None:
        """Show them to whoever asks at that address, from a thread that ends with the process."""
        start_http_server(port, host, self.registry)

    def watch(self, services: Callable[[], Iterable[Served]], messages_in_flight: Callable[[], int]) -> None:
        """Show also what is asked for when Prometheus does.

        Args:
            services: the models that are loaded at that moment.
            messages_in_flight: how many of the queue's messages are worked on.
        """
        requests = Gauge("gpt2_requests_in_flight", "Requests that are worked on or waiting", registry=self.registry)
        requests.set_function(lambda: self.requests_in_flight)
        messages = Gauge("gpt2_messages_in_flight", "Messages that are worked on", registry=self.registry)
        messages.set_function(messages_in_flight)
        self.registry.register(_Loads(services))

    def completed(self, measures: CompletionMeasures) -> None:
        """Count a completion, and log it."""
        self._prompt_tokens.labels(measures.model).inc(measures.prompt_tokens)
        self._completion_tokens.labels(measures.model).inc(measures.completion_tokens)
        for figure, histogram in self._figures.items():
            if (value := getattr(measures, figure)) is not None:
                histogram.labels(measures.model).observe(value)
        log_completion(measures)

    def answered(self, route: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(route, status).inc()

    def settled(self, done: bool) -> None:
        """Count a message: done with, or returned to the queue."""
        self._messages.labels("done" if done else "returned").inc()


class MetricsMiddleware:
    """Counts requests. It counts those in flight on the event loop alone, so that it needs no lock."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count it when it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _CLIENT_GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        counts = 0 if is_open(scope["path"]) else 1
        self._metrics.requests_in_flight += counts
        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = 500  # it broke off
            raise
        finally:
            self._metrics.requests_in_flight -= counts
            route: Any = scope.get("route")
            self._metrics.answered(NO_ROUTE if route is None else route.path, status)


class _Loads(Collector):
    """Asks the engines when Prometheus does."""

    def __init__(self, services: Callable[[], Iterable[Served]]) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        """A line for each version that is loaded."""
        labels = ("model", "version")
        running = GaugeMetricFamily("gpt2_choices_running", "Choices in the running batch", labels=labels)
        waiting = GaugeMetricFamily("gpt2_choices_waiting", "Choices that wait for a place there", labels=labels)
        places = GaugeMetricFamily("gpt2_places", "Places there are", labels=labels)
        cache = GaugeMetricFamily("gpt2_cache_use_ratio", "Share of the key-value cache that is taken", labels=labels)
        for service in self._services():
            load, names = service.load(), (service.model.name, service.model.version)
            running.add_metric(names, load.running)
            waiting.add_metric(names, load.waiting)
            places.add_metric(names, load.places)
            cache.add_metric(names, load.cache_use)
        return running, waiting, places, cache
