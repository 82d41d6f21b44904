"""When the front believes that the GPU service would answer: a state machine that is told what is seen, and the time.

A belief may be wrong, and no request is lost by it: what the service does not answer, the front answers itself. So
nothing here needs to be agreed on between processes; each has a belief of its own, formed by what it sees.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Final

# How often a service that is believed to be awake is looked at, where no answered request shows it.
LOOK_SECONDS: Final = 5.0

# After the first failure it is looked at again so much later, after each further one in a row twice as much, up to the
# second figure: a look costs nothing to speak of, but a service that looks ready and answers nothing costs requests.
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0

# What was seen so long ago says nothing about now: a Lambda environment may have been frozen in between.
MEMORY_SECONDS: Final = 300.0

# The GPU service has so much of the time that is left for the first byte of its answer; the other half is kept for the
# front to answer itself. Where there is no deadline, or a distant one, it has so many seconds.
FIRST_BYTE_SHARE: Final = 0.5
FIRST_BYTE_SECONDS: Final = 60.0


class Belief(enum.Enum):
    """What the front believes of the GPU service. Only to one that it believes AWAKE does it send requests.

    * **UNKNOWN** - it has never been seen, or not for five minutes. The next request has it looked at.
    * **ASLEEP** - a look found it not ready: it is not there, starting, or about to end. It is looked at again and
      again, at growing intervals, as long as there are requests.
    * **AWAKE** - it was ready, or has just answered a request.
    * **SUSPECT** - it was awake, and then a request failed or a look did. The next look decides.
    """

    UNKNOWN = enum.auto()
    ASLEEP = enum.auto()
    AWAKE = enum.auto()
    SUSPECT = enum.auto()


class Sign(enum.Enum):
    """What is seen of the GPU service.

    * **READY** - `/readyz` says that it has the front's model.
    * **NOT_READY** - `/readyz` says otherwise, or nothing in time.
    * **ANSWERED** - a forwarded request was answered.
    * **FAILED** - a forwarded request was not: the connection was refused or broke, the first byte did not come in
      time, or what came says that the service cannot answer (5xx), or does not know the front (401).
    * **SILENCE** - nothing was seen for five minutes.
    """

    READY = enum.auto()
    NOT_READY = enum.auto()
    ANSWERED = enum.auto()
    FAILED = enum.auto()
    SILENCE = enum.auto()


# What is not here changes nothing: a request may end when the belief it was sent by is no longer held. One that a
# service still answers while it is about to end is no sign that it would take another.
TRANSITIONS: Final[Mapping[tuple[Belief, Sign], Belief]] = {
    (Belief.UNKNOWN, Sign.READY): Belief.AWAKE,
    (Belief.UNKNOWN, Sign.NOT_READY): Belief.ASLEEP,
    (Belief.ASLEEP, Sign.READY): Belief.AWAKE,
    (Belief.AWAKE, Sign.NOT_READY): Belief.SUSPECT,
    (Belief.AWAKE, Sign.FAILED): Belief.SUSPECT,
    (Belief.AWAKE, Sign.SILENCE): Belief.UNKNOWN,
    (Belief.SUSPECT, Sign.READY): Belief.AWAKE,
    (Belief.SUSPECT, Sign.NOT_READY): Belief.ASLEEP,
}


class Rules:
    """The belief of one process; its caller sees that one thread at a time asks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Nothing has been seen yet.

        Args:
            clock: seconds, that go on while the process is frozen.
        """
        self._clock = clock
        self._belief = Belief.UNKNOWN
        self._seen_at = float("-inf")
        self._failures = 0  # since a request was last answered

    @property
    def belief(self) -> Belief:
        """The belief held now."""
        if self._clock() - self._seen_at >= MEMORY_SECONDS:
            self._belief = TRANSITIONS.get((self._belief, Sign.SILENCE), self._belief)
        return self._belief

    def see(self, sign: Sign) -> None:
        """Form the belief anew."""
        belief = self.belief
        if sign is Sign.NOT_READY or (belief is Belief.AWAKE and sign is Sign.FAILED):
            self._failures += 1
        elif belief is Belief.AWAKE and sign is Sign.ANSWERED:
            self._failures = 0
        elif sign is not Sign.READY:
            return
        self._belief = TRANSITIONS.get((belief, sign), belief)
        self._seen_at = self._clock()

    def look_due(self) -> bool:
        """Whether the service should be looked at beside the request that comes now."""
        match self.belief:
            case Belief.UNKNOWN:
                pause = 0.0
            case Belief.AWAKE:
                pause = LOOK_SECONDS
            case Belief.ASLEEP | Belief.SUSPECT:
                # A service that is ready and then fails requests has its pauses grow as well.
                pause = min(FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE_SECONDS)
        return self._clock() - self._seen_at >= pause


def first_byte_seconds(seconds_left: float | None) -> float:
    """How long the front waits for the first byte of an answer that must be out in so many seconds, or whenever."""
    if seconds_left is None:
        return FIRST_BYTE_SECONDS
    return min(max(seconds_left, 0.0) * FIRST_BYTE_SHARE, FIRST_BYTE_SECONDS)
