"""One HTTP/1.1 request that comes in, part by part, trailers included, and its response; h11 knows the protocol."""

import asyncio
from collections.abc import Callable, Iterable

import h11

_READ_BYTES = 65_536


class Exchange:
    """A request and its response, on a connection of their own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.SERVER)

    async def request(self) -> h11.Request:
        """Wait for the request's head.

        Raises:
            OSError: there is none.
        """
        event = await self._event()
        if not isinstance(event, h11.Request):
            raise ConnectionResetError("The connection was closed without a request.")
        return event

    async def listen(self, arrive: Callable[[bytes], None]) -> h11.EndOfMessage:
        """Pass on each part of the body as it comes; return its end, which holds the trailers.

        Raises:
            OSError: the connection ended before.
            h11.RemoteProtocolError: what came is no HTTP, or not all of it.
        """
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                arrive(bytes(event.data))
        return event

    async def body(self) -> bytes:
        """The whole body."""
        parts: list[bytes] = []
        await self.listen(parts.append)
        return b"".join(parts)

    async def answer(self, status: int, headers: list[tuple[str, str]] | None = None, body: bytes = b"") -> None:
        """Respond."""
        fields = [*(headers or []), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=status, headers=fields), h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self._protocol.send(event) or b"")
        await self._writer.drain()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _event(self) -> h11.Event:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await self._reader.read(_READ_BYTES))
        if isinstance(event, h11.ConnectionClosed | type):  # h11.PAUSED is a type: there is no second request
            raise ConnectionResetError("The connection was closed.")
        return event


def fields_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers or trailers, their names in lower case."""
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in headers}
