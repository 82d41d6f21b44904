"""The tandem in simulated time: arrivals, environments of the front with the rules they really have, the alarms that
wake the GPU service and let it sleep, and the service, which takes minutes to start and may end at any moment.

Times are in seconds. What happens next is an entry of a heap; nothing here waits.
"""

import enum
import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from handler.tandem.rules import Belief, Rules, Sign

# What the alarms of infra/gpu-scaling.yaml go by, as the template's parameters have it by default.
WAKE_REQUESTS = 60  # a minute
WAKE_MESSAGES = 100
IDLE_MINUTES = 15

START = 240.0  # from the alarm to readiness: an instance, the image, the model
DRAIN = 120.0  # what a service that ends has for what it has accepted; a spot instance's notice is as long
LOOK = 0.05
REFUSED = 0.01  # what a refusal takes
BY_GPU, BY_CPU = 1.0, 3.0  # what an answer takes
BATCH, BATCH_BY_GPU, BATCH_BY_CPU = 10, 0.5, 6.0  # messages


class Stage(enum.Enum):
    """Where the service is in its life: it takes requests while it is READY, and finishes them while DRAINING."""

    OFF = enum.auto()
    STARTING = enum.auto()
    READY = enum.auto()
    DRAINING = enum.auto()


@dataclass(eq=False)
class Request:
    """One request: when it came, and the answers that were given to it, by whom and begun when."""

    arrived: float
    answers: list[tuple[str, float]] = field(default_factory=list)


class World:
    """Everything, and the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.requests: list[Request] = []
        self.messages: Counter[str] = Counter()  # waiting; taken; by_gpu and by_cpu
        self.service = Service(self)
        self.beliefs: Counter[Belief] = Counter()  # how often an environment came to hold each
        self.environments = 0
        self._idle: list[Rules] = []
        self._last_minute = 0
        self._quiet_minutes = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.after(60, self._alarms)
        self.after(0, self._work_by_cpu)

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), what))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, what = heapq.heappop(self._heap)
            what()
        self.now = until

    def arrive(self, times: Iterable[float]) -> None:
        """Have requests come."""
        for time in times:
            self.after(time - self.now, self._arrive)

    def send(self, messages: int) -> None:
        """Put messages into the queue, now."""
        self.messages["waiting"] += messages

    # The front.

    def _arrive(self) -> None:
        request = Request(self.now)
        self.requests.append(request)
        self._last_minute += 1
        rules = self._idle.pop() if self._idle else self._environment()
        if rules.look_due():
            self.after(LOOK, lambda: self._see(rules, Sign.READY if self.service.ready else Sign.NOT_READY))
        if rules.belief is not Belief.AWAKE:
            self._answer_by_cpu(request, rules)
        else:
            self._forward(request, rules)

    def _environment(self) -> Rules:
        self.environments += 1
        return Rules(lambda: self.now)

    def _forward(self, request: Request, rules: Rules) -> None:
        begun = self.now

        def answered() -> None:
            self._see(rules, Sign.ANSWERED)
            request.answers.append(("gpu", begun))
            self._idle.append(rules)

        def failed() -> None:
            self._see(rules, Sign.FAILED)
            self._answer_by_cpu(request, rules)

        if self.service.ready:
            self.service.accept(answered, failed)
        else:
            self.after(REFUSED, failed)

    def _answer_by_cpu(self, request: Request, rules: Rules) -> None:
        begun = self.now

        def answered() -> None:
            request.answers.append(("cpu", begun))
            self._idle.append(rules)

        self.after(BY_CPU, answered)

    def _see(self, rules: Rules, sign: Sign) -> None:
        before = rules.belief
        rules.see(sign)
        if rules.belief is not before:
            self.beliefs[rules.belief] += 1

    # The alarms.

    def _alarms(self) -> None:
        busy = self._last_minute >= WAKE_REQUESTS or self.messages["waiting"] >= WAKE_MESSAGES
        self._last_minute = 0
        self._quiet_minutes = 0 if busy else self._quiet_minutes + 1
        if busy:
            self.service.want(tasks=1)
        elif self._quiet_minutes >= IDLE_MINUTES:
            self.service.want(tasks=0)
        self.after(60, self._alarms)

    # The queue.

    def _work_by_cpu(self) -> None:
        taken = self.take()
        self.after(BATCH_BY_CPU, lambda: self._worked(taken, "by_cpu"))
        self.after(BATCH_BY_CPU, self._work_by_cpu)

    def take(self) -> int:
        """Take some messages; others do not see them until they are given back, or for good when they are done."""
        taken = min(BATCH, self.messages["waiting"])
        self.messages["waiting"] -= taken
        return taken

    def _worked(self, messages: int, by: str) -> None:
        self.messages[by] += messages


class Service:
    """The GPU service: one task, or none."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._wanted = 0
        self._life = 0  # counts what was started: what was begun in one life does not go on in the next
        self._accepted: dict[int, Callable[[], None]] = {}  # what to do if the answer does not come
        self._requests = count()
        self._stage = Stage.OFF
        self.stages: list[tuple[float, Stage]] = []

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self._stage is Stage.READY

    def want(self, tasks: int) -> None:
        """Be there, or not."""
        self._wanted = tasks
        if tasks and self._stage is Stage.OFF:
            self._start()
        elif not tasks and self._stage is Stage.READY:
            self.end()
        elif not tasks and self._stage is Stage.STARTING:
            self.kill()

    def accept(self, answered: Callable[[], None], failed: Callable[[], None]) -> None:
        """Answer a request, and say so; or that it did not come to it."""
        life, request = self._life, next(self._requests)
        self._accepted[request] = failed

        def finish() -> None:
            if self._life == life:
                del self._accepted[request]
                answered()

        self._world.after(BY_GPU, finish)

    def interrupt(self) -> None:
        """Have the instance taken away, with the notice that spot instances are given."""
        if self.ready:
            self.end()

    def end(self) -> None:
        """Finish what was accepted, and take nothing more."""
        life = self._life
        self._enter(Stage.DRAINING)
        self._world.after(DRAIN, lambda: self.kill() if self._life == life else None)

    def kill(self) -> None:
        """Be gone, at once; somebody else takes its place if one is wanted."""
        self._life += 1
        self._enter(Stage.OFF)
        lost, self._accepted = self._accepted, {}
        for failed in lost.values():
            failed()
        if self._wanted:
            self._start()

    def _start(self) -> None:
        life = self._life
        self._enter(Stage.STARTING)

        def ready() -> None:
            if self._life == life:
                self._enter(Stage.READY)
                self._work(life)

        self._world.after(START, ready)

    def _work(self, life: int) -> None:
        """Work on messages while it is ready; what is not done when it ends is given back."""
        if self._life != life or not self.ready:
            return
        taken = self._world.take()

        def worked() -> None:
            by = "by_gpu" if self._life == life else "waiting"
            self._world.messages[by] += taken
            self._work(life)

        self._world.after(BATCH_BY_GPU, worked)

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        self.stages.append((self._world.now, stage))
