"""Looks at the GPU service beside requests, never on their way: `GET /readyz`, on a thread of its own."""

import threading
from collections.abc import Callable
from typing import Final

import httpx

from handler.stages import boot_time
from handler.tandem.rules import Belief, Rules, Sign
from handler.telemetry import logger

# A service that is ready says so at once: the question takes no model.
ANSWER_SECONDS: Final = 1.0

# Lambda freezes a process between two requests, a look with it. One that took so long was frozen, and saw the past.
FROZEN_SECONDS: Final = 5.0


class Lookout:
    """What one process believes of the GPU service, and how it comes to believe it; from any thread."""

    def __init__(self, address: str, model: str, clock: Callable[[], float] = boot_time) -> None:
        """Nobody has looked yet.

        Args:
            address: of the GPU service.
            model: the name of the model that it must have.
            clock: seconds, that go on while the process is frozen.
        """
        # No proxy that the environment may name: the service is in this network. And no connection is kept: it would be
        # in a snapshot of the process as well.
        self._client = httpx.Client(
            base_url=address,
            timeout=ANSWER_SECONDS,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
            verify=address.startswith("https:"),  # reading certificates takes a while
        )
        self._model = model
        self._clock = clock
        self._rules = Rules(clock)
        self._lock = threading.Lock()
        self._looking = False

    @property
    def belief(self) -> Belief:
        """The belief held now."""
        with self._lock:
            return self._rules.belief

    def awake(self) -> bool:
        """Whether the service is believed to answer requests."""
        return self.belief is Belief.AWAKE

    def see(self, sign: Sign) -> None:
        """Form the belief anew, and say in the log if it has changed."""
        with self._lock:
            before = self._rules.belief
            self._rules.see(sign)
            after = self._rules.belief
        if after is not before:
            logger.info("gpu service", belief=after.name, before=before.name, sign=sign.name)

    def look(self) -> None:
        """Have a look at the service, if it is time for one."""
        with self._lock:
            if self._looking or not self._rules.look_due():
                return
            self._looking = True
        threading.Thread(target=self._look, name="look at gpu service", daemon=True).start()

    def _look(self) -> None:
        began = self._clock()
        try:
            sign = Sign.READY if self._is_ready() else Sign.NOT_READY
            if self._clock() - began < FROZEN_SECONDS:
                self.see(sign)
        finally:
            self._looking = False

    def _is_ready(self) -> bool:
        try:
            answer = self._client.get("/readyz")
            return answer.status_code == 200 and bool(answer.json()["model"] == self._model)
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return False
