"""Sends requests for generation to the GPU service while it is awake, and answers them here whenever it does not.

Until the first byte of an answer has gone out nothing is lost, for the request is still here: a refused connection, a
service that is overloaded, draining or silent costs some time, and then the CPU answers. Whole answers are read to
their end before they are passed on, so that goes for all of them. A stream that breaks off after its first event ends
with an error, as one of this process's own would.
"""

import asyncio
import time
from collections.abc import Coroutine
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from handler.api.body_limit import replaying
from handler.api.dependencies import deadline_in
from handler.api.request_id import HEADER as REQUEST_ID
from handler.cancellation import Cancellation
from handler.settings import Settings
from handler.stages import before_snapshot
from handler.tandem.exchange import Exchange, Outcome
from handler.tandem.lookout import Lookout
from handler.tandem.principal import HEADER as PRINCIPAL
from handler.tandem.principal import Forwarded, sign
from handler.tandem.rules import Sign, first_byte_seconds
from handler.tandem.upstream import Upstream
from handler.telemetry import log_forwarded

if TYPE_CHECKING:
    from handler.api.keys import Key

# What the model answers, and nothing that is kept: files, batches and jobs.
PATHS: Final = frozenset({"/generate_text", "/v1/completions", "/v1/chat/completions", "/v1/score", "/v1/explain"})

# Whoever has less time left than this has none for a second try.
LEAST_SECONDS: Final = 2.0

# The service ends a whole answer, with what it has by then, in so much of the time for which it is waited for.
WHOLE_SHARE: Final = 0.9

_SIGNS: Final = {Outcome.ANSWERED: Sign.ANSWERED, Outcome.FAILED: Sign.FAILED, Outcome.INTERRUPTED: Sign.FAILED}


def add_forwarding(app: FastAPI, settings: Settings) -> None:
    """Have the application forward to the GPU service of the settings, which is looked at for the first time now.

    Before a snapshot nobody looks: what was seen then would be believed whenever it is restored.
    """
    lookout = Lookout(settings.gpu_url, settings.model_name)
    if not before_snapshot():
        lookout.look()
    app.add_middleware(
        ForwardingMiddleware, lookout=lookout, upstream=Upstream(settings.gpu_url), secret=settings.tandem_key
    )


class ForwardingMiddleware:
    """Stands before the routes alone: who is asking is known by then, and the body comes in one piece."""

    def __init__(self, app: ASGIApp, lookout: Lookout, upstream: Upstream, secret: str) -> None:
        """Forward requests.

        Args:
            app: answers what is not forwarded, or was so in vain.
            lookout: says whether the service is awake, and has it looked at.
            upstream: the service.
            secret: shared with it.
        """
        self._app = app
        self._lookout = lookout
        self._upstream = upstream
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or pass it on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in PATHS:
            self._lookout.look()
            seconds = _seconds_left(scope)
            if self._lookout.awake() and (seconds is None or seconds > LEAST_SECONDS):
                body = (await receive()).get("body", b"")
                began = time.monotonic()
                answering = self._exchange(scope, body, seconds).run(body, send)
                outcome = await _unless_cancelled(answering, scope["state"]["cancellation"])
                if outcome is not None:
                    log_forwarded(outcome.value, time.monotonic() - began)
                if outcome in _SIGNS:
                    self._lookout.see(_SIGNS[outcome])
                if outcome not in (Outcome.FAILED, Outcome.DECLINED):
                    return
                receive = replaying(body, receive)
        await self._app(scope, receive, send)

    def _exchange(self, scope: Scope, body: bytes, seconds: float | None) -> Exchange:
        """The request as it is sent on: its body and that body's type, its id, and who is asking; nothing else."""
        state = scope["state"]
        key: Key | None = state.get("key")
        patience = first_byte_seconds(seconds)
        forwarded = Forwarded(
            principal=state["principal"],
            request_id=state["request_id"],
            path=scope["path"],
            body_sha256=sha256(body).hexdigest(),
            whole_seconds=patience * WHOLE_SHARE,
            stream_seconds=seconds,
            key=key if key is not None and key.tokens_per_day is not None else None,
        )
        return Exchange(
            self._upstream,
            scope["path"],
            {
                "content-type": Headers(scope=scope).get("content-type", ""),
                REQUEST_ID: state["request_id"],
                PRINCIPAL: sign(forwarded, self._secret),
            },
            first_byte_seconds=patience,
            stream_seconds=seconds,
        )


def _seconds_left(scope: Scope) -> float | None:
    deadline = deadline_in(scope)
    return None if deadline is None else deadline - time.time()


async def _unless_cancelled(answering: Coroutine[Any, Any, Outcome], cancellation: Cancellation) -> Outcome | None:
    """What comes of an exchange; None if the client went away before, which ends it, and the connection with it."""
    exchange = asyncio.create_task(answering)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.call_soon_threadsafe(exchange.cancel)

    with cancellation.stopping_by(stop):
        try:
            await asyncio.wait({exchange})
        finally:
            exchange.cancel()
    return None if exchange.cancelled() else exchange.result()
