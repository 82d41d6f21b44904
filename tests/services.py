"""A service and an application over the fake engine, for tests of what lies above inference."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from handler.app import create_app
from handler.inference.scheduler import Scheduler
from handler.loading import ModelLoading
from handler.measures import Completed
from handler.registry.manifest import Architecture, Manifest
from handler.service import TextService
from handler.settings import Settings
from handler.telemetry import log_completion
from tests.fake_engine import FakeEngine
from tests.models import tiny_tokenizer

VOCABULARY = 300
END_OF_TEXT = VOCABULARY - 1
VERSION = "v0123456789abcdef"

MANIFEST = Manifest(
    name="tiny",
    version=VERSION,
    created="2026-11-23T12:00:00+00:00",
    source="made for a test",
    license=None,
    derived_from=None,
    architecture=Architecture("gpt2", 2, 4, 32, 64, VOCABULARY, 1000),
    dtype="F32",
    layout=None,
    chunk_size=1024,
    files=(),
    evaluation={},
    training={},
)


def make_settings(**changes: object) -> Settings:
    """Settings of a server on this machine, with some changed."""
    values = {"models_bucket": "models", "model_name": "tiny", "auth_mode": "none", "max_n": 4, "max_tokens": 50}
    return Settings.model_validate(values | changes)


@contextmanager
def running_service(
    engine: FakeEngine | None = None, settings: Settings | None = None, completed: Completed = log_completion
) -> Iterator[TextService]:
    """A service whose every token is known in advance."""
    scheduler = Scheduler(engine or FakeEngine(vocabulary_size=VOCABULARY))
    tokenizer = tiny_tokenizer(VOCABULARY)
    try:
        yield TextService(MANIFEST, tokenizer, scheduler, settings or make_settings(), completed=completed)
    finally:
        scheduler.close()


@contextmanager
def running_app(engine: FakeEngine | None = None, settings: Settings | None = None) -> Iterator[FastAPI]:
    """The application over such a service."""
    settings = settings or make_settings()
    with running_service(engine, settings) as service:
        loading = ModelLoading(lambda: service)
        loading.wait(None)
        yield create_app(settings, loading)
