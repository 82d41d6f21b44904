"""Whether the process lives (`/healthz`) and whether it could answer a prompt now (`/readyz`)."""

import time

from fastapi import APIRouter, Request
from pydantic import BaseModel

from handler.errors import DrainingError

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """The model is loaded."""

    status: str = "ready"
    model: str
    version: str


@router.get("/healthz")
async def healthz() -> Health:
    """Answer as long as the process lives."""
    return Health()


@router.get("/readyz")
async def readyz(request: Request) -> Readiness:
    """Answer 200 while the model is loaded, 503 with the reason before that and when the process is about to end."""
    if request.app.state.draining:
        raise DrainingError("This process is about to end; another one will answer.", retry_after=1)
    service = request.app.state.loading.wait(time.time())  # for no time at all
    request.state.model_version = service.model.version
    return Readiness(model=service.model.name, version=service.model.version)
