"""Lets a request in, or not. Every path needs authorization unless it is on one list, known route or not.

Who checks depends on AUTH_MODE. `api-key`: this application, against the keys table. `jwt` and `iam`: API Gateway,
whose verdict arrives in the event (nobody can write there but AWS and those who may invoke the function, which is the
same right). `none`: nobody; for a server on this machine only.
"""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.errors import error_response
from handler.api.key_limits import KeyLimits
from handler.api.keys import KeysTable
from handler.errors import AuthenticationError, ServiceError
from handler.settings import Settings

OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})

# The pieces of the documentation page; they hold nothing of ours.
OPEN_PREFIX = "/docs/"

# Returns who is asking, or raises AuthenticationError.
Authorizer = Callable[[Scope], str]


class AuthorizationMiddleware:
    """Asks the authorizer about every request to a path that is not open."""

    def __init__(self, app: ASGIApp, authorizer: Authorizer) -> None:
        self._app = app
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the refusal."""
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                principal = await run_in_threadpool(self._authorizer, scope)
            except ServiceError as error:
                await error_response(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether a path answers without authorization."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIX)


def authorizer_for(settings: Settings) -> Authorizer:
    """The authorizer of the settings' AUTH_MODE."""
    match settings.auth_mode:
        case "api-key":
            return api_key_authorizer(KeysTable(settings.keys_table), KeyLimits(settings.keys_table))
        case "jwt":
            return authorized_by_jwt
        case "iam":
            return authorized_by_iam
        case "none":
            return lambda _: "anyone"


def api_key_authorizer(keys: KeysTable, limits: KeyLimits) -> Authorizer:
    """Authorize whoever sends a key of the table as `Authorization: Bearer KEY`, as often as the key may be used."""

    def authorize(scope: Scope) -> str:
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise AuthenticationError("An API key is required: send it as `Authorization: Bearer KEY`.")
        found = keys.find(key.strip())
        if found is None:
            raise AuthenticationError("This API key is not known, or it was revoked.")
        limits.count_request(found)
        scope.setdefault("state", {})["allowance"] = limits.allowance(found)
        return f"key:{found.id}"

    return authorize


def authorized_by_jwt(scope: Scope) -> str:
    """Accept the claims of a token that API Gateway's JWT authorizer has verified."""
    claims = _gateway_authorizer(scope).get("jwt", {}).get("claims")
    if not claims:
        raise AuthenticationError("A token is required, verified by the API's JWT authorizer.")
    return f"jwt:{claims.get('sub', '?')}"


def authorized_by_iam(scope: Scope) -> str:
    """Accept the caller whose signature API Gateway has verified."""
    caller = _gateway_authorizer(scope).get("iam")
    if not caller:
        raise AuthenticationError("A request signed with AWS credentials is required, verified by the API.")
    return f"iam:{caller.get('userArn', '?')}"


def _gateway_authorizer(scope: Scope) -> Mapping[str, Any]:
    """What the gateway's authorizer found out: `requestContext.authorizer` of the event, or nothing."""
    found = scope.get("aws.event", {}).get("requestContext", {}).get("authorizer")
    return found if isinstance(found, Mapping) else {}
