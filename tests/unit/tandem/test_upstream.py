"""Answers as they come: cut anywhere, with headers that are for others."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from handler.tandem.upstream import passed_on, whole_events

EVENTS = [b"data: {}\n\n", "data: größer\n\n".encode(), b"data: [DONE]\n\n"]


class Cut(httpx.AsyncByteStream):
    """The events, and the beginning of another, in pieces of so many bytes."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        data = b"".join(EVENTS) + b"data: bro"
        for start in range(0, len(data), self._size):
            yield data[start : start + self._size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_events_are_passed_on_whole_or_not_at_all(size: int) -> None:
    async def events() -> list[bytes]:
        return [event async for event in whole_events(httpx.Response(200, stream=Cut(size)))]

    assert asyncio.run(events()) == EVENTS


def test_an_answers_own_headers_are_passed_on() -> None:
    own = [("content-type", "application/json"), ("x-model-version", "v1"), ("server-timing", "load;dur=1")]
    others = [
        ("Connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("Set-Cookie", "AWSALB=1"),
        ("Server", "nginx"),
    ]
    assert passed_on(httpx.Headers([*own, *others])) == [(name.encode(), value.encode()) for name, value in own]
