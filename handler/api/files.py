"""`/v1/files`: upload, describe, list, download and delete files, as OpenAI's clients do."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from handler.api.dependencies import KeptFiles
from handler.api.forms import read_form
from handler.api.pages import LARGEST_PAGE, After, Page
from handler.api.validation import describe, printable
from handler.errors import InvalidRequestError
from handler.kept.files import FileObject, Purpose, content_key, new_id

router = APIRouter(tags=["files"])

# What a function may answer, 6 MB, bounds a download, which travels there as base64; a larger one comes from S3 itself.
LARGEST_DOWNLOAD = 4_000_000
REDIRECT_SECONDS = 300

_EXPIRY = {"anchor": "expires_after[anchor]", "seconds": "expires_after[seconds]"}
_SHORTEST_LIFE, _LONGEST_LIFE = 3600, 30 * 24 * 3600
_MOST_DIGITS = 10  # what has more is too long a life, or begins with zeros

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "Requests, one a line."},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        _EXPIRY["anchor"]: {"type": "string", "enum": ["created_at"]},
                        _EXPIRY["seconds"]: {"type": "integer", "minimum": _SHORTEST_LIFE, "maximum": _LONGEST_LIFE},
                    },
                }
            }
        },
    }
}


class FileList(Page[FileObject]):
    """A page of files."""


class FileDeleted(BaseModel):
    """A file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


@router.post("/v1/files", openapi_extra=_FORM)
async def create_file(request: Request, files: KeptFiles) -> FileObject:
    """Keep a file."""
    name, content, fields = await read_form(request, "file", ("purpose", *_EXPIRY.values()))
    if "purpose" not in fields:
        raise InvalidRequestError("`purpose` is required.", param="purpose")
    if fields["purpose"] != "batch":
        raise InvalidRequestError(f"`purpose` must be batch; given: {describe(fields['purpose'])}.", param="purpose")
    life = _life(fields)
    now = int(time.time())
    description = FileObject(
        id=new_id("file-"),
        bytes=len(content),
        created_at=now,
        expires_at=None if life is None else now + life,
        filename=name,
        purpose="batch",
    )
    return await run_in_threadpool(files.create, description, content)


@router.get("/v1/files")
def list_files(
    files: KeptFiles,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = LARGEST_PAGE,
    order: Literal["asc", "desc"] = "desc",
    purpose: Purpose | None = None,
) -> FileList:
    """List files, a page at a time; `after` is the last id of the page before."""
    limit = min(limit, LARGEST_PAGE)
    found = files.listed(after=after, limit=limit + 1, newest_first=order == "desc", purpose=purpose)
    return FileList.of(found, limit)


@router.get("/v1/files/{file_id}")
def retrieve_file(file_id: str, files: KeptFiles) -> FileObject:
    """Describe a file."""
    return files.get(file_id)


@router.delete("/v1/files/{file_id}")
def delete_file(file_id: str, files: KeptFiles) -> FileDeleted:
    """Remove a file."""
    files.delete(file_id)
    return FileDeleted(id=file_id)


@router.get(
    "/v1/files/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, 302: {"description": "Where a large file is."}},
)
def download_file(file_id: str, files: KeptFiles) -> Response:
    """Hand out what is in a file, or where it is."""
    if files.get(file_id).bytes > LARGEST_DOWNLOAD:
        return RedirectResponse(files.storage.address(content_key(file_id), REDIRECT_SECONDS), 302)
    return Response(files.content(file_id), media_type="application/octet-stream")


def _life(fields: Mapping[str, str]) -> int | None:
    """For how many seconds to keep a file, or None for as long as results are kept."""
    anchor, seconds = fields.get(_EXPIRY["anchor"]), fields.get(_EXPIRY["seconds"])
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequestError("`expires_after[anchor]` must be created_at.", param="expires_after")
    if seconds is None or not seconds.isdecimal() or not seconds.isascii():
        raise InvalidRequestError("`expires_after[seconds]` must be a number.", param="expires_after")
    if len(seconds) > _MOST_DIGITS or not _SHORTEST_LIFE <= int(seconds) <= _LONGEST_LIFE:
        raise InvalidRequestError(
            f"`expires_after[seconds]` must be from {_SHORTEST_LIFE} to {_LONGEST_LIFE}; given: {printable(seconds)}.",
            param="expires_after",
        )
    return int(seconds)
