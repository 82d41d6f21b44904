"""How a middleware adds headers to the response that passes it."""

from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send


def adding_headers(send: Send, add: Callable[[MutableHeaders], None]) -> Send:
    """A `send` that has `add` look at the headers of the response, and change them, before they leave."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            add(MutableHeaders(scope=message))
        await send(message)

    return send_with_headers
