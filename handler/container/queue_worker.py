"""Answers the queue's messages beside the requests that come by HTTP: as many at once as the engine has places.

Each message is worked on by itself, from the moment it comes until it is done: none waits for the others it came with,
and the running batch stays full as long as there are messages. No message is taken while a request waits for a place,
so that somebody who waits for an answer waits for the next place alone, however long the queue is. And none is taken
while the engine has failed for good: it would spend, one after the other, the attempts that all messages have.

While a message is worked on, nobody else is given it; that is renewed every few seconds, so that those of a process
that dies are with another within a minute. Everything else is as in Lambda: each result is kept once, what can never
succeed goes to the dead letters with its reason, and what failed for now stays in the queue.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from handler.container.request_queue import RequestQueue
from handler.errors import EngineError, EngineUnavailableError, ServiceError
from handler.events.adapter import LambdaEvent
from handler.events.sqs import SqsAdapter
from handler.loading import ModelLoading
from handler.telemetry import logger

# How often it is looked whether requests have left room again; a message that is done says so itself.
_LOOK_SECONDS: Final = 0.1

# Between two polls of a queue that cannot be read, and between two attempts at a message, at most.
_LONGEST_PAUSE_SECONDS: Final = 60.0
_LONGEST_RETRY_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds.

    Attributes:
        poll: how long SQS waits for a message before it says that there is none. The end waits for that, too.
        visibility: for how long a message is nobody else's, unless that is renewed.
        longest: how long a message may be worked on. For so long it is renewed.
        retry: after how long a message that failed is delivered again; twice as long each time.
        pause: after how long a queue that cannot be read is asked again; likewise.
    """

    poll: int = 2
    visibility: int = 60
    longest: int = 900
    retry: int = 10
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """The part of Lambda's context that adapters look at: the time until `end`, on the clock of `time.monotonic()`."""

    end: float

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until then."""
        return max(0, round((self.end - time.monotonic()) * 1000))


class QueueWorker:
    """Takes messages and answers them until it is stopped; see the module's text."""

    def __init__(
        self,
        queue: RequestQueue,
        adapter: SqsAdapter,
        loading: ModelLoading,
        done: Callable[[bool], None] = lambda _: None,
        pace: Pace | None = None,
    ) -> None:
        """Nothing is taken yet.

        Args:
            queue: where messages come from.
            adapter: answers them.
            loading: the model, whose places say how many there is room for.
            done: told of each message whether it is done with, or returned to the queue.
            pace: how long things take.
        """
        self._queue = queue
        self._adapter = adapter
        self._loading = loading
        self._done = done
        self._pace = pace or Pace()
        self._under_way: dict[str, float] = {}  # receipt handle, and since when; guarded by _changed
        self._stopped = False
        self._polling = True
        self._changed = threading.Condition()
        self._poller = threading.Thread(target=self._poll, name="queue", daemon=True)
        self._renewer = threading.Thread(target=self._renew, name="renew messages", daemon=True)

    def start(self) -> None:
        """Begin to take messages, as soon as the model is there."""
        self._poller.start()
        self._renewer.start()

    @property
    def in_flight(self) -> int:
        """How many messages are worked on."""
        return len(self._under_way)

    def stop(self) -> None:
        """Take no more messages; those a poll still brings are given back. Returns at once."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def finish(self) -> None:
        """After `stop`, wait until what is worked on is done."""
        with self._changed:
            self._changed.wait_for(self._is_over)
        self._renewer.join()

    def give_back(self) -> None:
        """Let somebody else be given what is worked on here, which will not be finished."""
        with self._changed:
            handles = list(self._under_way)
        self._hide(handles, 0)

    def _poll(self) -> None:
        """The thread that takes messages."""
        failures = 0
        while room := self._wait_for_room():
            try:
                records = self._queue.receive(room, wait=self._pace.poll, visibility=self._pace.visibility)
            except Exception as error:  # noqa: BLE001 - whatever it is, the queue is asked again
                logger.error("queue not read", error=type(error).__name__, reason=str(error))
                pause = min(self._pace.pause * 2**failures, _LONGEST_PAUSE_SECONDS)
                failures += 1
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped, pause)
                continue
            failures = 0
            self._begin(records)
        with self._changed:
            self._polling = False
            self._changed.notify_all()

    def _wait_for_room(self) -> int:
        """How many messages there are places for, as soon as there is one; 0 once it is stopped."""
        with self._changed:
            while not self._stopped:
                if (room := self._room()) > 0:
                    return room
                self._changed.wait(_LOOK_SECONDS)
        return 0

    def _room(self) -> int:
        service = self._loading.service
        if service is None:
            self._loading.start()  # again, if it failed
            return 0
        try:
            service.check()
        except EngineUnavailableError:
            return 0
        load = service.load()
        # A message that was just taken has no choice there yet.
        return load.places - load.reserved - max(load.running + load.waiting, len(self._under_way))

    def _begin(self, records: list[LambdaEvent]) -> None:
        handles = [record["receiptHandle"] for record in records]
        with self._changed:
            taken = not self._stopped
            if taken:
                self._under_way |= dict.fromkeys(handles, time.monotonic())
        if not taken:
            self._hide(handles, 0)
            return
        for record in records:
            try:
                threading.Thread(target=self._work, args=[record], name="message", daemon=True).start()
            except RuntimeError as error:  # this process has no room for another one
                logger.error("message not begun", message_id=record["messageId"], reason=str(error))
                self._hide([record["receiptHandle"]], 0)
                self._forget(record["receiptHandle"])

    def _work(self, record: LambdaEvent) -> None:
        """The thread of one message."""
        handle = record["receiptHandle"]
        try:
            error = self._answer(record)
            if error is None:
                self._queue.delete(handle)
            else:
                attempts = int(record["attributes"]["ApproximateReceiveCount"])
                self._queue.hide([handle], min(self._pace.retry * 2 ** (attempts - 1), _LONGEST_RETRY_SECONDS))
            self._done(error is None)
        except (BotoCoreError, ClientError) as failure:
            # It is delivered again, and what is kept of it is found then.
            logger.error("message not settled", message_id=record["messageId"], error=type(failure).__name__)
        finally:
            self._forget(handle)

    def _forget(self, handle: str) -> None:
        with self._changed:
            del self._under_way[handle]
            self._changed.notify_all()

    def _answer(self, record: LambdaEvent) -> ServiceError | None:
        try:
            [error] = self._adapter.answer([record], TimeLeft(time.monotonic() + self._pace.longest))
        except ServiceError as failure:
            error = failure
        except Exception as bug:  # noqa: BLE001 - one message's misfortune is not the others'
            logger.error("message failed", message_id=record["messageId"], error=type(bug).__name__)
            error = EngineError(f"The message could not be answered: {type(bug).__name__}.")
        return error

    def _renew(self) -> None:
        """The thread that keeps messages from others while they are worked on."""
        while True:
            with self._changed:
                self._changed.wait_for(self._is_over, self._pace.visibility / 3)
                if self._is_over():
                    return
                young = time.monotonic() - self._pace.longest
                handles = [handle for handle, since in self._under_way.items() if since > young]
            self._hide(handles, self._pace.visibility)

    def _is_over(self) -> bool:
        return not self._polling and not self._under_way

    def _hide(self, handles: list[str], seconds: int) -> None:
        try:
            self._queue.hide(handles, seconds)
        except (BotoCoreError, ClientError) as error:
            logger.warning("messages not kept", error=type(error).__name__, reason=str(error))
