"""`Prefer: respond-async` on `/v1/completions`: a job at once, and its answer at `GET /v1/jobs/{id}`."""

import time
from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.completion_schemas import CompletionBody
from handler.api.dependencies import KeptFiles, refuse_limited_keys
from handler.api.json_body import JsonRoute
from handler.errors import InvalidRequestError
from handler.kept.files import new_id
from handler.kept.jobs import Job, JobRequest, Jobs

router = APIRouter(tags=["jobs"], route_class=JsonRoute)

PREFERENCE = "respond-async"

COMPLETIONS = "/v1/completions"

# Where requests go that prefer it. Nobody is told of this path, which does what the header does.
_ASYNC_PATH = "/v1/jobs"


def _jobs(files: KeptFiles) -> Jobs:
    return Jobs(files.storage)


KeptJobs = Annotated[Jobs, Depends(_jobs)]


class RespondAsyncMiddleware:
    """Leads a request for a completion that need not be answered at once (RFC 7240, section 4.1) to the jobs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == COMPLETIONS:
            preferred = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"prefer")
            if PREFERENCE in [each.split(";")[0].strip().lower() for each in preferred.split(",")]:
                scope = {**scope, "path": _ASYNC_PATH, "raw_path": _ASYNC_PATH.encode()}
        await self._app(scope, receive, send)


@router.post(_ASYNC_PATH, status_code=202, include_in_schema=False, dependencies=[Depends(refuse_limited_keys)])
def create_job(
    body: CompletionBody,
    request: Request,
    response: Response,
    jobs: KeptJobs,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Job:
    """Start a job; the same key of the same sender is the same job."""
    if body.stream:
        raise InvalidRequestError("`stream` must be false where the answer comes later; given: true.", param="stream")
    rest = None
    if idempotency_key is not None:
        sender = getattr(request.state, "principal", "")
        rest = sha256(f"{sender}\n{idempotency_key}".encode()).hexdigest()[:32]
    job = jobs.create(
        JobRequest(
            id=new_id("job_") if rest is None else f"job_{rest}",
            created_at=int(time.time()),
            body=body.model_dump(exclude_unset=True),
        )
    )
    if request.app.state.background is not None and job.status == "queued":
        request.app.state.background.start_job(job.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Preference-Applied"] = PREFERENCE
    response.headers["Retry-After"] = "1"
    return job


@router.get("/v1/jobs/{job_id}")
def retrieve_job(job_id: str, jobs: KeptJobs) -> Job:
    """Say whether a job is done, and what it was answered with."""
    return jobs.get(job_id)
