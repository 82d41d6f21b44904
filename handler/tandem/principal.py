"""Who is asking, as the front found out, told to the GPU service in a header that nobody else can write.

The header is a token (JWT, RFC 7519) signed by HMAC-SHA256 with a secret that front and GPU service share. It is good
for one request of one minute: it names the method and the path (`htm` and `htu`, as RFC 9449 has them), the request's
id and the SHA-256 of its body. So all that can be done with one that was overheard is to ask the very same thing again
within that minute, for an answer that was to be overheard as well. To rule that out, too, the tasks of the service
would have to remember ids together, at the price of a question to a database on the way of every request.
"""

import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final

import jwt
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.authorization import Authorizer
from handler.api.body_limit import replaying
from handler.api.errors import error_response
from handler.api.key_limits import KeyLimits
from handler.api.keys import Key
from handler.deadline import Deadlines
from handler.errors import AuthenticationError
from handler.settings import Settings

HEADER: Final = "x-tandem-principal"

# Clocks on AWS differ by less than a second.
MAX_AGE_SECONDS: Final = 60
LEEWAY_SECONDS: Final = 5

_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "gpu-service"


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What the front vouches for.

    Attributes:
        principal: who is asking.
        request_id: the request's id.
        path: what is asked, by POST.
        body_sha256: of its body, in hex.
        whole_seconds: in how many seconds an answer in one piece must be there.
        stream_seconds: in how many seconds a stream must have ended; None for whenever.
        key: the API key, if its tokens are counted: that is done where they are generated. Its requests the front has
            counted.
    """

    principal: str
    request_id: str
    path: str
    body_sha256: str
    whole_seconds: float
    stream_seconds: float | None
    key: Key | None


def sign(forwarded: Forwarded, secret: str, now: float | None = None) -> str:
    """The header's value; `now` is in seconds since 1970."""
    issued = int(time.time() if now is None else now)
    claims = {
        "aud": _AUDIENCE,
        "iat": issued,
        "exp": issued + MAX_AGE_SECONDS,
        "sub": forwarded.principal,
        "jti": forwarded.request_id,
        "htm": "POST",
        "htu": forwarded.path,
        "body_sha256": forwarded.body_sha256,
        "whole_seconds": forwarded.whole_seconds,
        "stream_seconds": forwarded.stream_seconds,
        "key": None if forwarded.key is None else asdict(forwarded.key),
    }
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def verify(token: str, secret: str, scope: Scope) -> Forwarded:
    """What the front vouches for about this request.

    Raises:
        AuthenticationError: the token is not the front's, is too old, or was made for another request.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            leeway=LEEWAY_SECONDS,
            options={"require": ["aud", "iat", "exp", "sub", "jti"]},
        )
    except (jwt.PyJWTError, RecursionError, OverflowError) as error:
        raise AuthenticationError(f"`{HEADER}` is not from our front, or not from now: {error}.") from error
    if (claims["htm"], claims["htu"]) != (scope["method"], scope["path"]):
        raise AuthenticationError(f"`{HEADER}` was made for another request.")
    return Forwarded(
        principal=claims["sub"],
        request_id=claims["jti"],
        path=claims["htu"],
        body_sha256=claims["body_sha256"],
        whole_seconds=claims["whole_seconds"],
        stream_seconds=claims["stream_seconds"],
        key=None if claims["key"] is None else Key(**claims["key"]),
    )


def accept_forwarded(app: FastAPI, settings: Settings, otherwise: Authorizer) -> Authorizer:
    """Have the application hold forwarded bodies against their headers; returns what authorizes its requests."""
    app.add_middleware(ForwardedBodyMiddleware)
    return tandem_authorizer(settings.tandem_key, KeyLimits(settings.keys_table), otherwise)


def tandem_authorizer(secret: str, limits: KeyLimits, otherwise: Authorizer) -> Authorizer:
    """Authorize what the front forwards by its header, and everything else as ever.

    Args:
        secret: shared with the front.
        limits: counts the tokens of keys that have a limit.
        otherwise: asked about requests without the header.
    """

    def authorize(scope: Scope) -> str:
        token = dict(scope["headers"]).get(HEADER.encode())
        if token is None:
            return otherwise(scope)
        forwarded = verify(token.decode("latin-1"), secret, scope)
        state = scope.setdefault("state", {})
        if forwarded.request_id != state.get("request_id"):
            raise AuthenticationError(f"`{HEADER}` was made for another request.")
        if forwarded.key is not None:
            state["allowance"] = limits.allowance(forwarded.key)
        state["body_sha256"] = forwarded.body_sha256
        state["deadlines"] = Deadlines.after(forwarded.whole_seconds, forwarded.stream_seconds)
        return forwarded.principal

    return authorize


class ForwardedBodyMiddleware:
    """Refuses a body that is not the one the front has vouched for; it stands where the body comes in one piece."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the refusal."""
        expected = scope.get("state", {}).get("body_sha256")
        if expected is not None:
            body = (await receive()).get("body", b"")
            if sha256(body).hexdigest() != expected:
                refusal = AuthenticationError(f"`{HEADER}` was made for another body.")
                await error_response(refusal)(scope, receive, send)
                return
            receive = replaying(body, receive)
        await self._app(scope, receive, send)
