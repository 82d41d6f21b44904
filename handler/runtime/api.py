"""Lambda's Runtime API, seen by a runtime: what it asks for and what it tells.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, for streamed responses "Implementing response
streaming in a custom runtime" in https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html, and for snapshots
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html.
"""

import asyncio
import base64
import json
import logging
import traceback
from dataclasses import dataclass
from typing import Any

import h11
from awslambdaric.lambda_context import LambdaContext

from handler.runtime.connection import Connection, Headers

logger = logging.getLogger(__name__)

# An error is told in headers, too, which have no room for more.
_FRAMES = 10

_ROOT = "/2018-06-01/runtime"

INVOCATION_ID = "Lambda-Runtime-Invocation-Id"
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"

# What the parts of a streamed response mean: a JSON prelude with status and headers, a separator, and the body.
HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response"


class RuntimeApiError(Exception):
    """Lambda did not take what it was told."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation.

    Attributes:
        request_id: names it, to Lambda and in its logs.
        payload: the event's JSON.
        context: what Python functions know as their context, awslambdaric's own.
        trace_id: of X-Ray, where it traces.
        echo: what Lambda wants to have back with the answer.
    """

    request_id: str
    payload: bytes
    context: LambdaContext
    trace_id: str | None
    echo: Headers


def error_document(error: BaseException) -> dict[str, Any]:
    """An error as Lambda shows it to whoever invoked the function."""
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__, limit=-_FRAMES),
    }


def report(what: str, error: Exception) -> None:
    """Log an error by its type and place alone: its own words may quote what somebody asked."""
    *_, place = traceback.extract_tb(error.__traceback__)
    logger.error("%s: %s at %s:%s", what, type(error).__name__, place.filename, place.lineno)


class RuntimeApi:
    """A client; each of its methods but `stream` is one exchange."""

    def __init__(self, address: str) -> None:
        """Nothing is sent yet; `address` is the environment's `AWS_LAMBDA_RUNTIME_API`."""
        self._address = address

    async def next(self) -> Invocation:
        """Wait for an invocation, however long; Lambda may freeze the process meanwhile."""
        response, payload = await self._exchange("GET", "/invocation/next")
        found = {name.decode("ascii").lower(): value.decode() for name, value in response.headers}
        request_id = found["lambda-runtime-aws-request-id"]
        context = LambdaContext(
            request_id,
            json.loads(found.get("lambda-runtime-client-context") or "null"),
            json.loads(found.get("lambda-runtime-cognito-identity") or "null"),
            int(found["lambda-runtime-deadline-ms"]),
            found.get("lambda-runtime-invoked-function-arn"),
            found.get("lambda-runtime-aws-tenant-id"),
        )
        echo = [(INVOCATION_ID, found[INVOCATION_ID.lower()])] if INVOCATION_ID.lower() in found else []
        return Invocation(request_id, payload, context, found.get("lambda-runtime-trace-id"), echo)

    async def respond(self, invocation: Invocation, payload: bytes) -> None:
        """Answer an invocation in one piece."""
        await self._exchange("POST", f"/invocation/{invocation.request_id}/response", payload, invocation.echo)

    async def stream(self, invocation: Invocation, gone: asyncio.Event) -> "ResponseStream":
        """Begin to answer an invocation piece by piece; `gone` is set when nobody reads the answer any more."""
        connection = await Connection.open(self._address)
        headers = [
            ("Lambda-Runtime-Function-Response-Mode", "streaming"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Type", HTTP_RESPONSE),
            ("Trailer", f"{ERROR_TYPE}, {ERROR_BODY}"),
            *invocation.echo,
        ]
        await connection.send(self._request("POST", f"/invocation/{invocation.request_id}/response", headers))
        return ResponseStream(connection, gone)

    async def fail(self, invocation: Invocation, error: Exception) -> None:
        """Answer an invocation with an error."""
        path = f"/invocation/{invocation.request_id}/error"
        await self._tell(path, error, type(error).__name__, invocation.echo)

    async def fail_init(self, error: Exception, kind: str | None = None) -> None:
        """Say that the function cannot be initialised; the process should end then."""
        await self._tell("/init/error", error, kind or type(error).__name__)

    async def restore_next(self) -> None:
        """Say that a snapshot can be taken, and return when it has been restored."""
        await self._exchange("GET", "/restore/next")

    async def fail_restore(self, error: Exception) -> None:
        """Say that the restored function cannot go on; the process should end then."""
        await self._tell("/restore/error", error, "Runtime.AfterRestoreError")

    async def _tell(self, path: str, error: Exception, kind: str, echo: Headers = ()) -> None:
        await self._exchange("POST", path, json.dumps(error_document(error)).encode(), [(ERROR_TYPE, kind), *echo])

    async def _exchange(
        self, method: str, path: str, body: bytes = b"", headers: Headers = ()
    ) -> tuple[h11.Response, bytes]:
        """One request and its response.

        Raises:
            RuntimeApiError: the response says that something went wrong.
            OSError: Lambda does not answer.
        """
        connection = await Connection.open(self._address)
        try:
            length = ("Content-Length", str(len(body)))
            await connection.send(self._request(method, path, [*headers, length]))
            await connection.send(h11.Data(data=body))
            await connection.send(h11.EndOfMessage())
            response, answer = await connection.response()
        finally:
            connection.close()
        if response.status_code >= 300:
            raise RuntimeApiError(f"{method} {path}: Lambda answered {response.status_code}: {answer[:200]!r}")
        return response, answer

    def _request(self, method: str, path: str, headers: Headers) -> h11.Request:
        about = [("Host", self._address), ("Connection", "close"), ("Content-Type", "application/json")]
        given = {name for name, _ in headers}
        fields = [*(field for field in about if field[0] not in given), *headers]
        return h11.Request(method=method, target=f"{_ROOT}{path}", headers=fields)


class ResponseStream:
    """An answer on its way, chunk by chunk.

    When the other side is gone, that is no error: it is told by the event, and what is written then goes nowhere.
    """

    def __init__(self, connection: Connection, gone: asyncio.Event) -> None:
        """Begin to watch the connection: Lambda says nothing before the end unless something is wrong."""
        self._connection = connection
        self._gone = gone
        self._watcher = asyncio.create_task(self._watch())

    async def write(self, data: bytes) -> None:
        """Send a chunk."""
        if data:
            await self._send(h11.Data(data=data))

    async def end(self, error: Exception | None = None) -> None:
        """Send the end; an error goes into the trailers, for status and headers are gone already."""
        trailers = []
        if error is not None:
            body = base64.b64encode(json.dumps(error_document(error)).encode()).decode()
            trailers = [(ERROR_TYPE, type(error).__name__), (ERROR_BODY, body)]
        await self._send(h11.EndOfMessage(headers=trailers))
        if self._gone.is_set():
            self._watcher.cancel()
        else:
            await self._watcher
        self._connection.close()

    async def _send(self, event: h11.Event) -> None:
        if self._gone.is_set():
            return
        try:
            await self._connection.send(event)
        except OSError:
            self._gone.set()

    async def _watch(self) -> None:
        try:
            response, _ = await self._connection.response()
        except OSError:
            self._gone.set()
        else:
            if response.status_code >= 300:
                logger.warning("Lambda answered %s to a streamed response", response.status_code)
                self._gone.set()
