"""When an answer must be out, from the event and the Lambda context that brought the request."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

# API Gateway gives up after 30 s and its clock starts before a cold start does, so it, too, is a deadline.
GATEWAY_SECONDS = 29.0

# Nobody waits behind a gateway for a minute: an older (or later) timestamp belongs to an event that is replayed, and
# says nothing about now.
REPLAY_SECONDS = 60.0

# What it takes to turn the last token into a response that has left the function.
ANSWER_SECONDS = 0.5


class LambdaContext(Protocol):
    """The part of Lambda's context object that tells the time left."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends this invocation."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The deadlines of a request that another process passes on, on the clock of `time.time()`.

    Attributes:
        whole: of an answer in one piece: whoever passes it on needs time to answer itself when none comes.
        stream: of a stream's end, if it has one: that one is coming is seen from its beginning.
    """

    whole: float
    stream: float | None

    @classmethod
    def after(cls, whole_seconds: float, stream_seconds: float | None) -> Self:
        """The deadlines that lie so many seconds ahead; clocks of two machines need not agree for that."""
        now = time.time()
        return cls(now + whole_seconds, None if stream_seconds is None else now + stream_seconds)


def deadline_of(event: Mapping[str, Any], context: LambdaContext | None) -> float | None:
    """The moment generation must stop, on the clock of `time.time()`.

    It is the earlier of Lambda's deadline and, for an event that came through API Gateway, the gateway's; less what
    it takes to answer. Without a Lambda context (under uvicorn) there is none.
    """
    limits = []
    if context is not None:
        limits.append(time.time() + context.get_remaining_time_in_millis() / 1000)
    arrived = _gateway_time(event)
    if arrived is not None and abs(time.time() - arrived) < REPLAY_SECONDS:
        limits.append(arrived + GATEWAY_SECONDS)
    return min(limits) - ANSWER_SECONDS if limits else None


def _gateway_time(event: Mapping[str, Any]) -> float | None:
    """When API Gateway received the request (payload 2.0: timeEpoch; 1.0: requestTimeEpoch), in seconds."""
    request = event.get("requestContext")
    if not isinstance(request, Mapping):
        return None
    # A function URL has the shape of payload 2.0, but waits as long as the function does.
    if ".lambda-url." in str(request.get("domainName")):
        return None
    milliseconds = request.get("timeEpoch", request.get("requestTimeEpoch"))
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None
