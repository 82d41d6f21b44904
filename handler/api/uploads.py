"""`/v1/uploads`: files larger than a body may be, in parts, as OpenAI's clients send them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from handler.api.dependencies import KeptFiles
from handler.api.forms import read_form
from handler.api.json_body import JsonRoute
from handler.api.validation import StrictBody
from handler.kept.batches import LARGEST_INPUT
from handler.kept.uploads import Upload, UploadPart, Uploads

router = APIRouter(tags=["uploads"], route_class=JsonRoute)

MOST_PARTS = 1000

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary", "description": "The part."}},
                }
            }
        },
    }
}


class UploadBody(StrictBody):
    """The request."""

    filename: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(description="The file's name.")
    bytes: int = Field(ge=0, le=LARGEST_INPUT, description="Its size.")
    mime_type: str = Field(description="Accepted, and not used.")
    purpose: Literal["batch"] = Field(description="What it is for.")


class CompletionOfUpload(StrictBody):
    """The request."""

    part_ids: list[str] = Field(max_length=MOST_PARTS, description="The parts, in their order.")
    md5: str | None = Field(None, description="The MD5 of the whole file, in hex; checked if given.")


def _uploads(files: KeptFiles) -> Uploads:
    return Uploads(files.storage)


KeptUploads = Annotated[Uploads, Depends(_uploads)]


@router.post("/v1/uploads")
def create_upload(body: UploadBody, uploads: KeptUploads) -> Upload:
    """Begin an upload."""
    return uploads.create(body.filename, body.bytes)


@router.post("/v1/uploads/{upload_id}/parts", openapi_extra=_FORM)
async def add_part(upload_id: str, request: Request, uploads: KeptUploads) -> UploadPart:
    """Send a part; parts may come in any order, and at the same time."""
    _, content, _ = await read_form(request, "data")
    return await run_in_threadpool(uploads.add, upload_id, content)


@router.post("/v1/uploads/{upload_id}/complete")
def complete_upload(upload_id: str, body: CompletionOfUpload, uploads: KeptUploads) -> Upload:
    """Make a file of the parts."""
    return uploads.complete(upload_id, body.part_ids, body.md5)


@router.post("/v1/uploads/{upload_id}/cancel")
def cancel_upload(upload_id: str, uploads: KeptUploads) -> Upload:
    """Give an upload up."""
    return uploads.cancel(upload_id)
