"""Requests to the GPU service: over connections that are kept for a moment, their answers as they come."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import httpx

CONNECT_SECONDS: Final = 1.0

# Shorter than whatever is on the other side keeps a connection without requests, so that none is used that is about to
# be closed there, or was while Lambda had this process frozen.
KEPT_SECONDS: Final = 5.0

# For one connection each (RFC 9110, 7.6.1); what this process's own server writes anew; and what a load balancer has
# to say to its client, which is us.
_NOT_PASSED_ON: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"content-length", "date", "server"}
    | {"set-cookie"}
)


class Upstream:
    """The GPU service as requests are sent to it, from any event loop."""

    def __init__(self, address: str) -> None:
        """Nothing is connected yet."""
        self._address = address
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """Send a request; its answer's body is read in the block, and given up with it.

        Raises:
            httpx.HTTPError: there is no answer, or not all of it.
        """
        # As it was made, so that what comes can be passed on piece by piece.
        fields = {**headers, "accept-encoding": "identity"}
        async with self._connected().stream("POST", path, content=body, headers=fields) as answer:
            yield answer

    async def close(self) -> None:
        """Close what is connected."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _connected(self) -> httpx.AsyncClient:
        """The client of the running loop. On Lambda there is one loop; its connections are no other's to use."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._loop = loop
            self._client = httpx.AsyncClient(
                base_url=self._address,
                # How long an answer may take is whoever's to say who waits for it.
                timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=None, keepalive_expiry=KEPT_SECONDS),
                trust_env=False,  # no proxy: it is in this network
                verify=self._address.startswith("https:"),  # reading certificates takes a while
            )
        return self._client


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
