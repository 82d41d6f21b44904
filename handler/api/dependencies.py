"""What routes are given: deadline, cancellation, the service once the model is loaded, and what is kept in S3."""

import threading
from typing import Annotated

from fastapi import Depends, Request

from handler.allowance import UNLIMITED, Allowance
from handler.api.validation import printable
from handler.batches import Batches
from handler.cancellation import Cancellation
from handler.deadline import deadline_of
from handler.errors import NotForLimitedKeysError, UnknownModelError
from handler.files import Files
from handler.service import TextService


def _deadline(request: Request) -> float | None:
    return deadline_of(request.scope.get("aws.event", {}), request.scope.get("aws.context"))


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


def _service(request: Request, deadline: Deadline) -> TextService:
    service: TextService = request.app.state.loading.wait(deadline)
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
            from handler.storage import storage_of  # noqa: PLC0415 - boto3 takes 0.2 s, and completions do without it

            state.files = Files(storage_of(state.results_bucket))
    files: Files = state.files
    return files


KeptFiles = Annotated[Files, Depends(_files)]


def _batches(files: KeptFiles) -> Batches:
    return Batches(files.storage)


KeptBatches = Annotated[Batches, Depends(_batches)]
