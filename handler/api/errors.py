"""Every error as the OpenAI error object: `{"error": {"message", "type", "param", "code"}}`."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from handler.api.validation import invalid_request
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


def body_of(error: Exception) -> dict[str, Any]:
    """What a client is told of any error; one that is a bug is logged, and not described."""
    if isinstance(error, ServiceError):
        return error.body()
    # The exception's own words may quote the request, so only its type and place are logged.
    logger.error("unhandled error", error=type(error).__name__, at=_place(error))
    return ServiceError("Something went wrong here; it has been logged.").body()


def install_error_handlers(app: FastAPI) -> None:
    """Give every way a request can fail the same shape."""

    @app.exception_handler(ServiceError)
    async def on_service_error(_: Request, error: ServiceError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(invalid_request(error.errors()))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = {
            404: f"There is nothing at {request.method} {request.url.path}.",
            405: f"{request.url.path} does not answer {request.method}.",
        }.get(error.status_code, str(error.detail))
        body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def on_bug(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(body_of(error), 500)


def _place(error: Exception) -> str:
    """Where an exception was raised: file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
