"""`GET /v1/models`: what is served here."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from handler.api.dependencies import Service

router = APIRouter(tags=["models"])


class Model(BaseModel):
    """A model, as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When this version was published, in seconds since 1970.")
    owned_by: str = Field(description="Where the model came from.")


class ModelList(BaseModel):
    """All models served here."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models")
def list_models(service: Service) -> ModelList:
    """List the models."""
    model = service.model
    created = int(datetime.fromisoformat(model.created).timestamp())
    return ModelList(data=[Model(id=model.name, created=created, owned_by=model.source)])
