"""Whether the process lives (`/healthz`) and whether it could answer a prompt now (`/readyz`)."""

import time

from fastapi import APIRouter, Request
from pydantic import BaseModel

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
    """Answer 200 once the model is loaded, 503 with the reason before that, or if its engine has failed for good."""
    service = request.app.state.loading.wait(time.time())  # for no time at all
    request.state.model_version = service.model.version
    service.check()
    return Readiness(model=service.model.name, version=service.model.version)
