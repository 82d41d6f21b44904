"""Tokens (JWT, RFC 7519) verified here, where no gateway has done it: against the keys their issuer publishes.

Which issuer, which keys and which algorithms is never the token's to say: the issuer is a setting, its keys are where
its own metadata says (OpenID Connect Discovery 1.0, section 4), and a token only chooses among them, by its `kid`. What
is accepted is what API Gateway's JWT authorizer accepts, so that a token is as good here as there.

Importing this takes a third of a second, for the cryptography: `authorization` does so when a token comes.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import jwt

from handler.errors import AuthenticationError, IssuerUnavailableError

# Signatures that anybody can check and only the issuer can make.
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")

# Clocks differ.
LEEWAY_SECONDS = 30

# The issuer's keys are good for a while. They are read anew after it, and for a token that names an unknown one; but
# not more often than this, whatever tokens come and whether or not the issuer answers.
KEYS_SECONDS = 300.0
PAUSE_SECONDS = 10

# How long it may take to answer, twice.
ANSWER_SECONDS = 2.0

_MAX_BYTES = 1_000_000

_NEVER = float("-inf")

# What comes of an issuer that does not answer, or not what it should.
_SILENCE = (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError, jwt.PyJWTError)


class TokenVerifier:
    """Verifies tokens of one issuer; from any thread."""

    def __init__(self, issuer: str, audiences: list[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is asked yet.

        Args:
            issuer: its URL, as tokens name it.
            audiences: of which a token must name one.
            clock: tells how old the keys are, in seconds.
        """
        self._issuer = issuer
        self._audiences = audiences
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = _NEVER

    def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a token.

        Raises:
            AuthenticationError: it is not valid, or not now, or not here.
            IssuerUnavailableError: nobody can say, because the issuer's keys cannot be had.
        """
        try:
            key = self._key(str(jwt.get_unverified_header(token).get("kid")))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            raise AuthenticationError("The token has expired.") from None
        except (jwt.PyJWTError, RecursionError, OverflowError) as error:
            raise AuthenticationError(f"The token is not valid: {error}.") from error
        # Access tokens of some issuers (Cognito's) name a client in place of an audience; the gateway takes them, too.
        named = claims.get("aud", claims.get("client_id"))
        if not any(audience in self._audiences for audience in (named if isinstance(named, list) else [named])):
            raise AuthenticationError("The token is not valid: it is meant for another audience.")
        return claims

    def _key(self, kid: str) -> jwt.PyJWK:
        with self._lock:  # one thread asks the issuer, the others wait for what it brings
            now = self._clock()
            if (kid not in self._keys or now - self._read_at > KEYS_SECONDS) and now - self._tried_at > PAUSE_SECONDS:
                self._tried_at = now
                with suppress(*_SILENCE):
                    self._keys = published_keys(self._issuer)
                    self._read_at = now
            if kid in self._keys and now - self._read_at <= KEYS_SECONDS:
                return self._keys[kid]
            if self._read_at < self._tried_at:
                raise IssuerUnavailableError(
                    "The issuer of tokens did not say what its keys are, so no token can be checked.",
                    retry_after=PAUSE_SECONDS,
                )
            raise jwt.InvalidTokenError("It names no key of its issuer")


def published_keys(issuer: str) -> dict[str, jwt.PyJWK]:
    """The keys of an issuer by their ids.

    Raises:
        OSError, HTTPException: it does not answer.
        ValueError, LookupError, TypeError, AttributeError, PyJWTError: what it answers makes no sense.
    """
    metadata = _get_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    # Only this machine itself is asked without encryption: see Settings.
    schemes = ("https", urlsplit(issuer).scheme)
    if metadata["issuer"] != issuer or urlsplit(metadata["jwks_uri"]).scheme not in schemes:
        raise ValueError("The metadata is another issuer's, or sends for the keys where nothing is safe.")
    keys = jwt.PyJWKSet.from_dict(_get_json(metadata["jwks_uri"]))
    return {key.key_id: key for key in keys if key.key_id and key.public_key_use in ("sig", None)}


def _get_json(address: str) -> Any:
    with urlopen(address, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - a setting, or what its owner publishes
        return json.loads(answer.read(_MAX_BYTES))
