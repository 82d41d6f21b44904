"""`/v1/batches`: start, watch, list and cancel batches, as OpenAI's clients do."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field, StringConstraints

from handler.api.dependencies import KeptBatches, KeptFiles, refuse_limited_keys
from handler.api.json_body import JsonRoute
from handler.api.pages import LARGEST_PAGE, After, Page
from handler.api.validation import StrictBody
from handler.errors import InvalidRequestError
from handler.kept.batches import COMPLETION_SECONDS, FINAL, LARGEST_INPUT, Batch, Endpoint
from handler.kept.files import new_id

router = APIRouter(tags=["batches"], route_class=JsonRoute)

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class BatchBody(StrictBody):
    """The request."""

    input_file_id: str = Field(description="A file with one request a line.")
    endpoint: Endpoint = Field(description="What answers each of the requests.")
    completion_window: Literal["24h"] = Field(description="What is not answered by then is not answered.")
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = Field(
        None, description="Up to 16 notes of your own."
    )


class BatchList(Page[Batch]):
    """A page of batches, the newest first."""


@router.post("/v1/batches", dependencies=[Depends(refuse_limited_keys)])
def create_batch(body: BatchBody, request: Request, files: KeptFiles, batches: KeptBatches) -> Batch:
    """Start a batch."""
    file = files.get(body.input_file_id)
    if file.purpose != "batch":
        raise InvalidRequestError("`input_file_id` must be a file whose purpose is batch.", param="input_file_id")
    if file.bytes > LARGEST_INPUT:
        raise InvalidRequestError(
            f"`input_file_id` may be a file of at most {LARGEST_INPUT} bytes; given: {file.bytes}.",
            param="input_file_id",
        )
    now = int(time.time())
    batch = Batch(
        id=new_id("batch_"),
        endpoint=body.endpoint,
        input_file_id=file.id,
        created_at=now,
        expires_at=now + COMPLETION_SECONDS,
        metadata=body.metadata,
    )
    batches.create(batch)
    if request.app.state.background is not None:
        request.app.state.background.start_batch(batch.id)
    return batch


@router.get("/v1/batches")
def list_batches(
    batches: KeptBatches, after: After = None, limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 20
) -> BatchList:
    """List batches, a page at a time; `after` is the last id of the page before."""
    return BatchList.of(batches.listed(after=after, limit=limit + 1), limit)


@router.get("/v1/batches/{batch_id}")
def retrieve_batch(batch_id: str, batches: KeptBatches) -> Batch:
    """Say how far a batch is."""
    return batches.get(batch_id)


@router.post("/v1/batches/{batch_id}/cancel")
def cancel_batch(batch_id: str, batches: KeptBatches) -> Batch:
    """Have a batch end with what is done; what is under way is still finished."""

    def cancel(batch: Batch) -> Batch:
        if batch.status in FINAL or batch.status == "finalizing":
            raise InvalidRequestError(
                f"`batch_id`: a batch can be cancelled until it is done; this one is {batch.status}.", param="batch_id"
            )
        return batch if batch.status == "cancelling" else batch.now("cancelling")

    return batches.update(batch_id, cancel)
