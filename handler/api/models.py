"""`GET /v1/models`, and each of them: what is served here, and where it comes from."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from handler.api.dependencies import Deadline, Service, check_model
from handler.registry.manifest import Manifest

router = APIRouter(tags=["models"])

_FACTS = (
    "version",
    "license",
    "derived_from",
    "architecture",
    "dtype",
    "layout",
    "evaluation",
    "training",
    "data",
    "code",
)


class Model(BaseModel):
    """A model, as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When this version was published, in seconds since 1970.")
    owned_by: str = Field(description="Where the model came from.")


class Architecture(BaseModel):
    """Kind and sizes."""

    model_type: str
    layers: int
    heads: int
    width: int
    context_length: int
    vocabulary_size: int
    parameters: int


class ModelFacts(Model):
    """A model, and what its manifest says of the version that is served."""

    version: str
    license: str | None = Field(description="Of the weights, where it is known.")
    derived_from: str | None = Field(description="The version this one was made from.")
    architecture: Architecture
    dtype: str = Field(description="The weights' type.")
    layout: str | None = Field(description="How the weights are quantized and packed; null for plain tensors.")
    evaluation: dict[str, Any] = Field(description="Figures measured on these very weights.")
    training: dict[str, Any] = Field(description="How the weights were trained, where that is known.")
    data: dict[str, Any] = Field(description="The texts they were trained on, where that is known.")
    code: str | None = Field(description="The version of this project that made the weights, where that is known.")


class ModelList(BaseModel):
    """All models served here."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models")
def list_models(request: Request, deadline: Deadline) -> ModelList:
    """List the models that a request may name."""
    return ModelList(data=[Model(**_about(manifest)) for manifest in request.app.state.loading.manifests(deadline)])


@router.get("/v1/models/{model}")
def retrieve_model(model: str, service: Service) -> ModelFacts:
    """Tell what a model is; one that is not loaded is loaded."""
    check_model(model, service)
    facts = asdict(service.model)
    return ModelFacts(**_about(service.model), **{name: facts[name] for name in _FACTS})


def _about(manifest: Manifest) -> dict[str, Any]:
    created = int(datetime.fromisoformat(manifest.created).timestamp())
    return {"id": manifest.name, "created": created, "owned_by": manifest.source}
