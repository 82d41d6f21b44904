"""An issuer of tokens on this machine: its metadata and keys over HTTP, and the tokens it signs."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "text"


class LocalIssuer:
    """What it publishes can be changed by a test.

    Attributes:
        url: as its tokens name it.
        documents: what it answers, by path.
        asked: the paths it was asked for.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, Any] = {}
        self.documents: dict[str, Any] = {}
        self.asked: list[str] = []
        self.publish("first")

    def publish(self, *kids: str, algorithm: str = "RS256") -> None:
        """Have these keys and no others; what is new is made."""
        for kid in set(kids) - set(self.keys):
            curve = algorithm.startswith("ES")
            self.keys[kid] = ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, 2048)
        self.documents = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [_jwk(kid, self.keys[kid]) for kid in kids]},
        }

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token, some changed, or left out where they are None."""
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 600, **changes}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, kid: str = "first", *, algorithm: str = "RS256", **changes: Any) -> str:
        """A token signed with one of the keys."""
        return jwt.encode(self.claims(**changes), self.keys[kid], algorithm, {"kid": kid})


def _jwk(kid: str, key: Any) -> dict[str, Any]:
    algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


@contextmanager
def running_issuer() -> Iterator[LocalIssuer]:
    """An issuer that answers on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            found = issuer.documents.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = LocalIssuer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
