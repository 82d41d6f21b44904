"""Requests to the GPU service, and their answers as they come."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import httpx

CONNECT_SECONDS: Final = 1.0

# For one connection each (RFC 9110, 7.6.1); what this process's own server writes anew; and what a load balancer has
# to say to its client, which is us.
_NOT_PASSED_ON: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"content-length", "date", "server"}
    | {"set-cookie"}
)


class Upstream:
    """The GPU service as requests are sent to it, from any event loop.

    Each request has a connection of its own, which takes a millisecond. One that was kept would be used again after
    Lambda has had the process frozen, when the other side has long forgotten it.
    """

    def __init__(self, address: str) -> None:
        """Nothing is connected yet."""
        self._client = httpx.AsyncClient(
            base_url=address,
            # As it was made, so that what comes can be passed on piece by piece.
            headers={"accept-encoding": "identity", "connection": "close"},
            # How long an answer may take is for those to say who wait for it.
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,  # no proxy: it is in this network
            verify=address.startswith("https:"),  # reading certificates takes a while
        )

    @asynccontextmanager
    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """Send a request; its answer's body is read in the block, and given up with it.

        Raises:
            httpx.HTTPError: there is no answer, or not all of it.
        """
        async with self._client.stream("POST", path, content=body, headers=headers) as answer:
            yield answer


async def whole_events(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The server-sent events of an answer, each with the empty line that ends it."""
    rest = b""
    async for data in answer.aiter_raw():
        *events, rest = (rest + data).split(b"\n\n")
        for event in events:
            yield event + b"\n\n"


def passed_on(headers: httpx.Headers) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that are its own, as ASGI has them."""
    return [(name.lower(), value) for name, value in headers.raw if name.lower().decode() not in _NOT_PASSED_ON]
