"""The FastAPI application: the same for Mangum on Lambda and for uvicorn anywhere else."""

import gc
import os
import sys

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from handler.api import (
    batches,
    chat,
    completions,
    docs,
    explain,
    files,
    generate_text,
    health,
    jobs,
    models,
    playground,
    score,
    tokens,
    uploads,
)
from handler.api.authorization import AuthorizationMiddleware, authorizer_for
from handler.api.body_limit import BodyLimitMiddleware
from handler.api.capacity import CapacityMiddleware
from handler.api.disconnect import DisconnectMiddleware
from handler.api.errors import ERROR_RESPONSES, install_error_handlers
from handler.api.jobs import RespondAsyncMiddleware
from handler.api.model_version import ModelVersionMiddleware
from handler.api.request_id import RequestIdMiddleware
from handler.api.server_timing import ServerTimingMiddleware
from handler.api.unforeseen import UnforeseenErrorMiddleware
from handler.errors import InvalidSettingsError
from handler.fetching import Fetching
from handler.loading import ModelLoading
from handler.models import models_of
from handler.settings import Settings, settings
from handler.stages import cold_start
from handler.work.background import Background

# How long a thread that computes in Python keeps the event loop waiting; Python's own default is five times as long.
SWITCH_SECONDS = 0.001


def create_app(configuration: Settings, loading: ModelLoading, background: Background | None = None) -> FastAPI:
    """The application over a model that is being loaded, or is already.

    Args:
        configuration: the settings.
        loading: the model.
        background: works on batches and jobs where there is no worker that hears of new ones.
    """
    app = FastAPI(
        title="GPT-2, serverless",
        version="1",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        redirect_slashes=False,  # to an address made of whatever `Host` the client sent
        responses=ERROR_RESPONSES,
    )
    app.state.loading = loading
    app.state.several_models = bool(configuration.other_models)
    app.state.results_bucket = configuration.results_bucket
    app.state.background = background
    app.state.draining = False  # whether the process is about to end
    # For the description alone: the middleware below has asked long before a route is reached.
    bearer = Security(HTTPBearer(auto_error=False, description="An API key, or what AUTH_MODE asks for."))
    for resource in (generate_text, completions, chat, models, score, explain, tokens, files, uploads, batches, jobs):
        app.include_router(resource.router, dependencies=[bearer])
    for resource in (health, docs, playground):
        app.include_router(resource.router)
    install_error_handlers(app)
    authorizer = authorizer_for(configuration)
    if configuration.gpu_url:
        from handler.tandem.forwarding import add_forwarding  # noqa: PLC0415 - a twelfth of a second, for a front alone

        add_forwarding(app, configuration)
    elif configuration.tandem_key:
        from handler.tandem.principal import accept_forwarded  # noqa: PLC0415 - and half of it, for what is behind one

        authorizer = accept_forwarded(app, configuration, authorizer)
    app.add_middleware(RespondAsyncMiddleware)
    app.add_middleware(DisconnectMiddleware)
    # The last one added is the first one asked: nobody's body is read before they may come in.
    app.add_middleware(BodyLimitMiddleware, limit=configuration.max_body_bytes)
    app.add_middleware(AuthorizationMiddleware, authorizer=authorizer)
    app.add_middleware(CapacityMiddleware, capacity=configuration.max_requests)
    app.add_middleware(ModelVersionMiddleware)
    app.add_middleware(ServerTimingMiddleware)
    app.add_middleware(UnforeseenErrorMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app


def spare_the_event_loop() -> None:
    """Set this process up so that nothing keeps the event loop waiting for long.

    What is there by now stays for good, so that the garbage collector need not look at it again: that takes it
    milliseconds in which no thread can run.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()


def serve() -> FastAPI:
    """The application of this process's environment, its model already loading; uvicorn's factory."""
    try:
        configuration = settings()
    except InvalidSettingsError as error:
        sys.exit(error.message)
    spare_the_event_loop()
    fetching = Fetching(os.environ, cold_start)
    fetching.start()
    loading = models_of(configuration, os.environ, fetching, cold_start)
    loading.start()
    return create_app(configuration, loading, Background(loading, configuration.results_bucket))
