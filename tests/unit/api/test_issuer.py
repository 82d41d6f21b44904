"""Tokens verified here: by the issuer's own keys, wherever the token says to look, and not at all when in doubt."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from handler.api.authorization import authorizer_for
from handler.api.issuer import KEYS_SECONDS, PAUSE_SECONDS, TokenVerifier
from handler.errors import AuthenticationError, IssuerUnavailableError, ServiceError
from tests.issuers import AUDIENCE, LocalIssuer, running_issuer
from tests.services import make_settings, running_app
from tests.unit.api.test_authorization import ask


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def running() -> Iterator[LocalIssuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(running: LocalIssuer) -> LocalIssuer:
    running.publish("first")
    running.asked.clear()
    return running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(issuer: LocalIssuer, clock: Clock) -> TokenVerifier:
    return TokenVerifier(issuer.url, [AUDIENCE, "other"], clock)


def refusal(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(ServiceError) as refused:
        verifier.verify(token)
    assert isinstance(refused.value, AuthenticationError), refused.value
    return refused.value.message


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_good_token_is_let_in(issuer: LocalIssuer, verifier: TokenVerifier, algorithm: str) -> None:
    issuer.publish(algorithm, algorithm=algorithm)
    assert verifier.verify(issuer.token(algorithm, algorithm=algorithm))["sub"] == "ada"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"aud": ["nobody", AUDIENCE]},
        {"aud": None, "client_id": AUDIENCE},  # Cognito's access tokens
    ],
)
def test_so_is_what_the_gateway_would_let_in(
    issuer: LocalIssuer, verifier: TokenVerifier, changes: dict[str, Any]
) -> None:
    assert verifier.verify(issuer.token(**changes))["iss"] == issuer.url


def test_clocks_may_differ_a_little(issuer: LocalIssuer, verifier: TokenVerifier) -> None:
    now = time.time()
    assert verifier.verify(issuer.token(exp=now - 10, nbf=now + 10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp": time.time() - 60}, "The token has expired."),
        ({"exp": None}, 'The token is not valid: Token is missing the "exp" claim.'),
        ({"exp": "soon"}, "The token is not valid: Expiration Time claim (exp) must be an integer.."),
        ({"nbf": time.time() + 10_000}, "The token is not valid: The token is not yet valid (nbf)."),
        ({"iss": "https://other.example"}, "The token is not valid: Invalid issuer."),
        ({"iss": None}, 'The token is not valid: Token is missing the "iss" claim.'),
        ({"aud": "stranger"}, "The token is not valid: it is meant for another audience."),
        ({"aud": None}, "The token is not valid: it is meant for another audience."),
        ({"aud": ["stranger"], "client_id": AUDIENCE}, "The token is not valid: it is meant for another audience."),
        ({"aud": {"text": "text"}}, "The token is not valid: it is meant for another audience."),
    ],
)
def test_what_the_token_says_must_be_right(
    issuer: LocalIssuer, verifier: TokenVerifier, changes: dict[str, Any], message: str
) -> None:
    assert refusal(verifier, issuer.token(**changes)) == message


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join(parts) + "."


def test_the_token_chooses_neither_algorithm_nor_keys(issuer: LocalIssuer, verifier: TokenVerifier) -> None:
    claims = issuer.claims()
    public = issuer.documents["/keys"]["keys"][0]["n"].encode()
    with running_issuer() as attacker:
        elsewhere = {"kid": "first", "jku": f"{attacker.url}/keys", "jwk": attacker.documents["/keys"]["keys"][0]}
        forged = {
            "none": unsigned({"alg": "none", "kid": "first"}, claims),
            "by the public key": jwt.encode(claims, public, "HS256", {"kid": "first"}),
            "by another key": jwt.encode(claims, attacker.keys["first"], "RS256", elsewhere),
            "by a kid that is none": unsigned({"alg": "RS256", "kid": {"a": 1}}, claims),
            "by no kid": jwt.encode(claims, issuer.keys["first"], "RS256"),
        }
        refusals = {how: refusal(verifier, token) for how, token in forged.items()}
        assert attacker.asked == []
    assert all(message.startswith("The token is not valid: ") for message in refusals.values()), refusals
    assert verifier.verify(issuer.token())


@pytest.mark.parametrize(
    "token",
    ["", "a", "a.b.c", "sk-local", "é.é.é", "." * 9000, base64.urlsafe_b64encode(b"[" * 30_000).decode() + ".a.a"],
)
def test_what_is_no_token_is_refused(verifier: TokenVerifier, token: str) -> None:
    assert refusal(verifier, token).startswith("The token is not valid: ")


def test_keys_are_read_once_and_anew_when_they_are_old(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: Clock
) -> None:
    for _ in range(3):
        verifier.verify(issuer.token())
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    clock.now += KEYS_SECONDS + 1
    issuer.publish("second")
    assert refusal(verifier, issuer.token("first")) == "The token is not valid: It names no key of its issuer."
    assert verifier.verify(issuer.token("second"))


def test_a_new_key_is_looked_for_but_not_for_every_token(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: Clock
) -> None:
    verifier.verify(issuer.token())
    issuer.publish("first", "new")
    for _ in range(5):
        assert "names no key" in refusal(verifier, issuer.token("new"))
    assert len(issuer.asked) == 2
    clock.now += PAUSE_SECONDS + 1
    assert verifier.verify(issuer.token("new"))
    assert len(issuer.asked) == 4


def test_keys_that_are_known_outlast_an_issuer_that_is_silent_for_a_while(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: Clock
) -> None:
    good, unknown = issuer.token(), jwt.encode(issuer.claims(), issuer.keys["first"], "RS256", {"kid": "unknown"})
    verifier.verify(good)
    issuer.documents.clear()
    clock.now += PAUSE_SECONDS + 1
    for _ in range(3):
        with pytest.raises(IssuerUnavailableError):
            verifier.verify(unknown)
        verifier.verify(good)
    clock.now += KEYS_SECONDS
    for _ in range(3):
        with pytest.raises(IssuerUnavailableError):
            verifier.verify(good)
    assert len(issuer.asked) == 4  # twice in vain, of the metadata alone
    issuer.publish("first")
    clock.now += PAUSE_SECONDS + 1
    assert verifier.verify(good)


@pytest.mark.parametrize(
    "documents",
    [
        {},
        {"/.well-known/openid-configuration": {"issuer": "https://other.example", "jwks_uri": "KEYS"}},
        {"/.well-known/openid-configuration": {"issuer": "ISSUER", "jwks_uri": "file:///etc/hostname"}},
        {"/.well-known/openid-configuration": {"issuer": "ISSUER"}},
        {"/.well-known/openid-configuration": ["issuer"]},
        {"/keys": {"keys": []}},
        {"/keys": {"keys": [{"kty": "RSA"}]}},
        {"/keys": "keys"},
    ],
)
def test_nobody_is_let_in_when_the_issuer_makes_no_sense(
    issuer: LocalIssuer, verifier: TokenVerifier, documents: dict[str, Any]
) -> None:
    text = json.dumps(documents).replace("ISSUER", issuer.url).replace("KEYS", f"{issuer.url}/keys")
    issuer.documents = {**(issuer.documents if documents else {}), **json.loads(text)}
    with pytest.raises(IssuerUnavailableError) as refused:
        verifier.verify(issuer.token())
    assert (refused.value.status, refused.value.retry_after) == (503, PAUSE_SECONDS)


def test_a_request_is_let_in_by_its_token_and_by_the_gateways_verdict(issuer: LocalIssuer) -> None:
    settings = make_settings(auth_mode="jwt", jwt_issuer=issuer.url, jwt_audience=f"other,{AUDIENCE}")
    with running_app(settings=settings) as app:
        assert ask(app, "/v1/models", Authorization=f"Bearer {issuer.token()}").status_code == 200
        assert ask(app, "/v1/models", Authorization="Bearer a.b.c").status_code == 401
        assert ask(app, "/v1/models", Authorization=f"Basic {issuer.token()}").status_code == 401
        assert ask(app, "/v1/models").status_code == 401
    issuer.asked.clear()
    scope = {"headers": [], "aws.event": {"requestContext": {"authorizer": {"jwt": {"claims": {"sub": "eve"}}}}}}
    assert authorizer_for(settings)(scope) == "jwt:eve"
    assert issuer.asked == []
