"""What routes are given: deadline, cancellation, the service once the model is loaded, and what is kept in S3."""

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from starlette.types import Scope

from handler.allowance import UNLIMITED, Allowance
from handler.api.validation import printable
from handler.cancellation import Cancellation
from handler.deadline import Deadlines, deadline_of
from handler.errors import NotForLimitedKeysError, UnknownModelError
from handler.kept.batches import Batches
from handler.kept.files import Files
from handler.service import TextService
from handler.timing import current_timing

# The ASGI extension by which `handler.runtime` says that it sends on what it is given.
RESPONSE_STREAM = "aws.lambda.response_stream"

if TYPE_CHECKING:
    from handler.loading import ModelLoading


def deadline_in(scope: Scope) -> float | None:
    """The deadline of a request, from the Lambda event that brought it, if one did; see `deadline_of`."""
    # Where responses stream, no gateway's clock runs, only Lambda's.
    streams = RESPONSE_STREAM in scope.get("extensions", {})
    return deadline_of({} if streams else scope.get("aws.event", {}), scope.get("aws.context"))


async def _deadline(request: Request) -> float | None:
    given: Deadlines | None = getattr(request.state, "deadlines", None)
    if given is None:
        return deadline_in(request.scope)
    body = await request.json()  # which was parsed for the route, and is kept
    return given.stream if getattr(body, "stream", False) else given.whole


Deadline = Annotated[float | None, Depends(_deadline)]


def _cancellation(request: Request) -> Cancellation:
    cancellation: Cancellation = request.state.cancellation
    return cancellation


ClientGone = Annotated[Cancellation, Depends(_cancellation)]


def _allowance(request: Request) -> Allowance:
    allowance: Allowance = getattr(request.state, "allowance", UNLIMITED)
    return allowance


Tokens = Annotated[Allowance, Depends(_allowance)]


def refuse_limited_keys(allowance: Tokens) -> None:
    """Let nobody who is counted start what is worked on elsewhere, where nobody counts.

    Raises:
        NotForLimitedKeysError: the key has a limit of tokens a day.
    """
    if allowance is not UNLIMITED:
        raise NotForLimitedKeysError("A key with a limit of tokens a day cannot start batches or jobs.")


async def _asked_for(request: Request) -> str | None:
    """The model that a request names in its path or its body, if it does; that it may is the routes' to check.

    Where there is only one, nobody looks: FastAPI reads the body for the route, which holds the name against it.
    """
    if not request.app.state.several_models:
        return None
    named: object = request.path_params.get("model")
    if named is None:
        with suppress(ValueError, RecursionError):
            body = await request.json()  # which was parsed for the route, and is kept
            named = body.get("model") if isinstance(body, dict) else getattr(body, "model", None)
    return named if isinstance(named, str) else None


def _service(request: Request, deadline: Deadline, model: Annotated[str | None, Depends(_asked_for)]) -> TextService:
    loading: ModelLoading = request.app.state.loading
    began = time.monotonic()
    try:
        service = loading.wait(deadline, model, getattr(request.state, "request_id", ""))
    finally:
        current_timing().spent("load", time.monotonic() - began)
    request.state.model_version = service.model.version
    return service


Service = Annotated[TextService, Depends(_service)]


def check_model(name: str | None, service: TextService) -> None:
    """See that a request names the model that is served here, or none.

    Raises:
        UnknownModelError: it names another one.
    """
    if name is not None and name != service.model.name:
        raise UnknownModelError(
            f"`model`: {service.model.name!r} is served here; given: {printable(name)!r}.", param="model"
        )


_making_storage = threading.Lock()


def _files(request: Request) -> Files:
    state = request.app.state
    with _making_storage:
        if not hasattr(state, "files"):
            from handler.kept.storage import storage_of  # noqa: PLC0415 - boto3 takes 0.2 s, and completions do without it

            state.files = Files(storage_of(state.results_bucket))
    files: Files = state.files
    return files


KeptFiles = Annotated[Files, Depends(_files)]


def _batches(files: KeptFiles) -> Batches:
    return Batches(files.storage)


KeptBatches = Annotated[Batches, Depends(_batches)]
