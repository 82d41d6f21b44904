"""One request forwarded: sent to the GPU service, and its answer passed on if there is one."""

import asyncio
import enum
from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpx
from starlette.types import Message, Send

from handler.api.event_stream import EventStream, error_event
from handler.api.request_id import HEADER as REQUEST_ID
from handler.deadline import ANSWER_SECONDS
from handler.errors import StreamInterruptedError
from handler.tandem.upstream import Upstream, passed_on, whole_events
from handler.telemetry import logger

# Says who answered, where it was not this process.
SERVED_BY: Final = b"x-served-by"

# A stream that says nothing for so long has broken off.
NEXT_EVENT_SECONDS: Final = 30.0

# What is the request's own fault would be here as well.
_REFUSED: Final = frozenset({400, 413})

# Over capacity, or without the model that is asked for: the service is well, and this request is not for it.
_DECLINED: Final = frozenset({404, 429})


class Outcome(enum.Enum):
    """What came of a request that was forwarded.

    * **ANSWERED** - its answer was passed on, to the end.
    * **DECLINED** - the service does not take it; nothing was passed on.
    * **FAILED** - there was no answer of the service's; nothing was passed on.
    * **INTERRUPTED** - a stream broke off after its first event, and was ended with an error.
    """

    ANSWERED = "answered"
    DECLINED = "declined"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Exchange:
    """A request to the service and its answer; `run` it once."""

    def __init__(
        self,
        upstream: Upstream,
        path: str,
        headers: Mapping[str, str],
        *,
        first_byte_seconds: float,
        stream_seconds: float | None,
    ) -> None:
        """Prepare to ask.

        Args:
            upstream: the service.
            path: what is asked for, by POST.
            headers: the request's, its id among them.
            first_byte_seconds: how long to wait for the first event, or for a whole answer.
            stream_seconds: in how many seconds the last event must be there, if there is a bound.
        """
        self._upstream = upstream
        self._path = path
        self._headers = headers
        self._first_byte_seconds = first_byte_seconds
        self._stream_seconds = stream_seconds

    async def run(self, body: bytes, send: Send) -> Outcome:
        """Ask, and pass the answer on: from its first event, or, when it is no stream, once all of it is there."""
        begun = False
        clock = asyncio.get_running_loop().time
        # The service ends a stream in time by itself; what it takes to pass that on is no reason to break it off.
        ends_at = float("inf") if self._stream_seconds is None else clock() + self._stream_seconds + ANSWER_SECONDS / 2
        try:
            async with (
                asyncio.timeout(self._first_byte_seconds) as limit,
                self._upstream.post(self._path, body, self._headers) as answer,
            ):
                outcome = self._outcome_by_status(answer)
                if outcome is not Outcome.ANSWERED:
                    logger.warning("not answered by the gpu service", status=answer.status_code)
                    return outcome
                async for piece in _pieces(answer):
                    limit.reschedule(None)  # the client may take its time
                    if not begun:
                        begun = True
                        await send(_start(answer, piece))
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    limit.reschedule(min(clock() + NEXT_EVENT_SECONDS, ends_at))
        except (httpx.HTTPError, TimeoutError) as error:
            logger.warning("not answered by the gpu service", error=type(error).__name__)
            if begun:
                lost = StreamInterruptedError("What was making this text went away; all it had made stands above.")
                await send({"type": "http.response.body", "body": error_event(lost), "more_body": False})
                return Outcome.INTERRUPTED
        if not begun:
            return Outcome.FAILED
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return Outcome.ANSWERED

    def _outcome_by_status(self, answer: httpx.Response) -> Outcome:
        # A load balancer has answers of its own, and they name no request.
        if answer.headers.get(REQUEST_ID) != self._headers[REQUEST_ID]:
            return Outcome.FAILED
        if answer.is_success or answer.status_code in _REFUSED:
            return Outcome.ANSWERED
        return Outcome.DECLINED if answer.status_code in _DECLINED else Outcome.FAILED


def _is_stream(answer: httpx.Response) -> bool:
    return bool(answer.headers.get("content-type", "").startswith(EventStream.media_type))


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    """What is passed on at once: an event of a stream, or all there is."""
    if _is_stream(answer):
        async for event in whole_events(answer):
            yield event
    else:
        yield await answer.aread()


def _start(answer: httpx.Response, piece: bytes) -> Message:
    """How the answer begins whose first piece this is."""
    headers = [*passed_on(answer.headers), (SERVED_BY, b"gpu")]
    if not _is_stream(answer):
        headers.append((b"content-length", str(len(piece)).encode()))
    return {"type": "http.response.start", "status": answer.status_code, "headers": headers}
