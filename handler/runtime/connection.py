"""One HTTP/1.1 request and its response, over a connection of their own; h11 knows the protocol."""

import asyncio
from collections.abc import Iterable
from typing import Self

import h11

Headers = Iterable[tuple[str, str]]

_READ_BYTES = 65_536


class Connection:
    """A connection while a request is sent and answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect to `HOST:PORT`.

        Raises:
            OSError: nobody answers there.
        """
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def send(self, event: h11.Event) -> None:
        """Send a part of the request, and wait while the other side does not keep up.

        Raises:
            OSError: the other side is gone.
        """
        data = self._protocol.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def response(self) -> tuple[h11.Response, bytes]:
        """Wait for the whole response.

        Raises:
            OSError: the connection ended before.
        """
        response: h11.Response | None = None
        body = bytearray()
        try:
            while True:
                match self._protocol.next_event():
                    case h11.NEED_DATA:
                        self._protocol.receive_data(await self._reader.read(_READ_BYTES))
                    case h11.Response() as response:
                        pass
                    case h11.Data(data=data):
                        body += data
                    case h11.EndOfMessage() if response is not None:
                        return response, bytes(body)
                    case h11.ConnectionClosed():
                        raise ConnectionResetError("The connection was closed before the response.")
        except h11.RemoteProtocolError as error:
            raise ConnectionResetError(f"What came is no HTTP, or not all of it: {error}") from error

    def close(self) -> None:
        """Close the connection, without waiting for what was not sent."""
        self._writer.close()
