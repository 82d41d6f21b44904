"""Every error as the OpenAI error object: `{"error": {"message", "type", "param", "code"}}`."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from handler.api.validation import invalid_request, printable
from handler.errors import ServiceError
from handler.telemetry import logger


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="For people: the field, the bound, and what was given.")
    type: str = Field(description="The family of the error.")
    param: str | None = Field(description="The field at fault.")
    code: str | None = Field(description="For programs: stable.")


class ErrorBody(BaseModel):
    """The body of every response that is not a success."""

    error: ErrorDetail


# For the API's description; FastAPI's own 422 is never sent.
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be answered as it is."},
    "5XX": {
        "model": ErrorBody,
        "description": "The service cannot answer it now; `Retry-After` says when to try again.",
    },
}


def error_response(error: ServiceError) -> JSONResponse:
    """The response that tells a client of an error."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.body(), error.status, headers)


def told(error: Exception) -> ServiceError:
    """What whoever asked is told of any error; one that is a bug is logged, and not described."""
    if isinstance(error, ServiceError):
        return error
    # The exception's own words may quote the request, so only its type and place are logged.
    logger.error("unhandled error", error=type(error).__name__, at=_place(error))
    return ServiceError("Something went wrong here; it has been logged.")


def install_error_handlers(app: FastAPI) -> None:
    """Give every way a request can fail the same shape; what is a bug has it from `unforeseen.py`."""

    @app.exception_handler(ServiceError)
    async def on_service_error(_: Request, error: ServiceError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(invalid_request(error.errors()))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        path = printable(request.url.path)
        message = {
            404: f"There is nothing at {request.method} {path}.",
            405: f"{path} does not answer {request.method}.",
        }.get(error.status_code, str(error.detail))
        body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
        return JSONResponse(body, error.status_code, error.headers)


def _place(error: Exception) -> str:
    """Where an exception was raised: file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
