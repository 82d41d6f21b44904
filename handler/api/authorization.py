"""Lets a request in, or not. Every path needs authorization unless it is on one list, known route or not.

Who checks depends on AUTH_MODE. `api-key`: this application, against the keys table. `jwt` and `iam`: API Gateway or a
function URL, whose verdict arrives in the event (nobody can write there but AWS and those who may invoke the function,
which is the same right); where neither knows tokens, as a function URL does not, this application checks them. `none`:
nobody; for a server on this machine only.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.errors import error_response
from handler.api.key_limits import KeyLimits
from handler.api.keys import KeysTable
from handler.errors import AuthenticationError, ServiceError
from handler.settings import Settings

if TYPE_CHECKING:
    from handler.api.issuer import TokenVerifier

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
            return jwt_authorizer(settings.jwt_issuer, settings.jwt_audience)
        case "iam":
            return authorized_by_iam
        case "none":
            return lambda _: "anyone"


def api_key_authorizer(keys: KeysTable, limits: KeyLimits) -> Authorizer:
    """Authorize whoever sends a key of the table as `Authorization: Bearer KEY`, as often as the key may be used."""

    def authorize(scope: Scope) -> str:
        key = _bearer(scope)
        if not key:
            raise AuthenticationError("An API key is required: send it as `Authorization: Bearer KEY`.")
        found = keys.find(key)
        if found is None:
            raise AuthenticationError("This API key is not known, or it was revoked.")
        limits.count_request(found)
        scope.setdefault("state", {}).update(key=found, allowance=limits.allowance(found))
        return f"key:{found.id}"

    return authorize


def jwt_authorizer(issuer: str, audience: str) -> Authorizer:
    """Authorize whoever sends a token that API Gateway's JWT authorizer has verified, or else is found valid here."""

    @cache
    def verifier() -> "TokenVerifier":
        from handler.api.issuer import TokenVerifier  # noqa: PLC0415 - behind the HTTP API it is never needed

        return TokenVerifier(issuer, audience.split(","))

    def authorize(scope: Scope) -> str:
        claims = _mapping(_verdict(scope, "authorizer").get("jwt")).get("claims")
        if not claims:
            token = _bearer(scope)
            if not token or not issuer:
                raise AuthenticationError("A token is required: send it as `Authorization: Bearer TOKEN`.")
            claims = verifier().verify(token)
        return f"jwt:{claims.get('sub', '?')}"

    return authorize


def authorized_by_iam(scope: Scope) -> str:
    """Accept the caller whose signature AWS has verified.

    A REST API says so in another place than an HTTP API and a function URL, and there says of everybody else where they
    come from.
    """
    signed = _mapping(_verdict(scope, "authorizer").get("iam"))
    caller = signed.get("userArn") or _verdict(scope, "identity").get("userArn")
    if not caller:
        raise AuthenticationError("A request signed with AWS credentials is required, verified by the API.")
    return f"iam:{caller}"


def _bearer(scope: Scope) -> str:
    """What comes as `Authorization: Bearer`, or nothing."""
    header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    scheme, _, credentials = header.partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def _verdict(scope: Scope, part: str) -> Mapping[str, Any]:
    """What AWS found out about the caller: a part of the event's `requestContext`, or nothing."""
    return _mapping(_mapping(scope.get("aws.event", {}).get("requestContext")).get(part))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
