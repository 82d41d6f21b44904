"""uvicorn, with an end that a load balancer can follow.

On SIGTERM `/readyz` answers 503 at once, which is how whoever sends requests here learns to stop. That takes seconds,
in which requests still come: they are answered like any other, for a refusal would reach the client, who has done
nothing wrong. Each response closes its connection then, so that no next request is on its way into a closed door. After
that nobody is let in any more, and the process ends as soon as everything under way is finished.

ECS takes a task out of its target group before it sends SIGTERM, but not when it loses a Spot instance, and what knows
this process without a load balancer (the front in Lambda, say) learns of its end by `/readyz` alone.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import Receive, Scope, Send

from handler.api.response_headers import adding_headers
from handler.container.settings import ContainerSettings
from handler.telemetry import logger

# As long as it takes, at most, until nobody sends anything here any more: a balancer's next two health checks.
GRACE_SECONDS: Final = 10.0

# A balancer must be the one that closes a connection it does not use: else it sends a request into one that is being
# closed, and answers 502. An application load balancer may be told to keep them for 4,000 seconds.
KEEP_ALIVE_SECONDS: Final = 4060


class ContainerServer(uvicorn.Server):
    """Serves the application until SIGTERM has come and all is finished; see the module's text."""

    def __init__(self, app: FastAPI, settings: ContainerSettings, on_drain: Callable[[], None]) -> None:
        """Nothing is served yet.

        Args:
            app: the application.
            settings: where to listen, and how much time there is in the end.
            on_drain: called once when the end begins; must not take long.
        """
        config = uvicorn.Config(
            _ClosesConnections(app),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        super().__init__(config)
        self._app = app
        self._grace = min(GRACE_SECONDS, settings.drain_seconds / 2)
        self._on_drain = on_drain

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have SIGTERM drain, and SIGINT (somebody at a terminal, with no balancer) end without the grace."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain, self._grace)
        loop.add_signal_handler(signal.SIGINT, self._drain, 0.0)
        yield

    def _drain(self, grace: float) -> None:
        if self._app.state.draining:
            return
        self._app.state.draining = True
        logger.info("draining", grace=grace)
        self._on_drain()
        asyncio.get_running_loop().call_later(grace, self._stop_listening)

    def _stop_listening(self) -> None:
        self.should_exit = True


class _ClosesConnections:
    """Has each response close its connection while the process is ending."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        def add(headers: MutableHeaders) -> None:
            if self._app.state.draining:
                headers["connection"] = "close"

        await self._app(scope, receive, adding_headers(send, add))
