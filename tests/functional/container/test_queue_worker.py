"""A container that takes messages itself, from moto's SQS: many at once, each by itself, none lost."""

import io
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from handler.container.queue_worker import Pace, QueueWorker
from handler.container.request_queue import RequestQueue
from handler.events.adapter import LambdaEvent
from handler.inference.protocol import FloatArray, GenerationRequest, SamplingParams
from tests.fake_engine import FakeEngine
from tests.functional.events.worker import GatedEngine, Place, Worker, greedy, running_worker, text_of
from tests.log_lines import logged
from tests.services import VOCABULARY
from tests.serving import wait_until

BRISK = Pace(poll=0, visibility=30, retry=0, pause=0.01)


@contextmanager
def taking(worker: Worker, queue: RequestQueue, pace: Pace = BRISK) -> Iterator[QueueWorker]:
    """A process that takes messages until the end of the block, and then finishes what it has."""
    taker = QueueWorker(queue, worker.adapter, worker.loading, pace=pace)
    taker.start()
    try:
        yield taker
    finally:
        taker.stop()
        taker.finish()


class FaultyQueue(RequestQueue):
    """Fails as often as it is told to, and counts how often messages were kept from others."""

    def __init__(self, url: str, *, receiving: Sequence[Exception] = (), deleting: Sequence[Exception] = ()) -> None:
        super().__init__(url)
        self._receiving, self._deleting = list(receiving), list(deleting)
        self.hidden: list[tuple[int, int]] = []  # how many messages, and for how many seconds

    def receive(self, most: int, *, wait: int, visibility: int) -> list[LambdaEvent]:
        if self._receiving:
            raise self._receiving.pop(0)
        return super().receive(most, wait=wait, visibility=visibility)

    def delete(self, handle: str) -> None:
        if self._deleting:
            raise self._deleting.pop(0)
        super().delete(handle)

    def hide(self, handles: Sequence[str], seconds: int) -> None:
        self.hidden.append((len(handles), seconds))
        super().hide(handles, seconds)


def test_forty_messages_are_decoded_together_and_each_is_answered_once(place: Place) -> None:
    for i in range(40):
        place.queue.send({"prompt": f"She {i}", "max_tokens": 5 + i % 4, "temperature": 0}, request_id=f"m{i}")
    engine = GatedEngine(40)
    with running_worker(engine) as worker, taking(worker, RequestQueue(place.queue.url)):
        wait_until(place.queue.is_empty)

    assert {key: text_of(result) for key, result in place.results().items()} == {
        f"results/sqs/m{i}.json": greedy(f"She {i}", 5 + i % 4) for i in range(40)
    }
    assert worker.scheduler.submitted == 40
    assert max(engine.steps) == 40
    assert len(engine.steps) <= 8 + 2  # the longest alone takes 8


def test_no_more_are_taken_than_there_are_places(place: Place) -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(2, vocabulary_size=VOCABULARY, permits=permits)
    for i in range(5):
        place.queue.send({"prompt": f"She {i}", "max_tokens": 2, "temperature": 0}, request_id=f"m{i}")
    with running_worker(engine) as worker:
        with taking(worker, RequestQueue(place.queue.url)) as taker:
            wait_until(lambda: worker.scheduler.submitted == 2)
            taker.stop()
            assert taker.in_flight == 2
            permits.release(100)
        assert worker.scheduler.submitted == 2
    # Those that were begun are answered, and nobody has to wait for the others.
    assert len(place.results()) == 2
    assert len(place.queue.receive()) == 3


def test_a_request_that_comes_later_is_not_overtaken(place: Place) -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(1, vocabulary_size=VOCABULARY, permits=permits)
    first, later = (GenerationRequest((tokens,), (SamplingParams(),), max_tokens=1) for tokens in ((65,), (65, 66)))
    place.queue.send({"prompt": [65, 66, 67], "max_tokens": 1}, request_id="message")
    with running_worker(engine) as worker:
        worker.scheduler.submit(first)
        with taking(worker, RequestQueue(place.queue.url)):
            wait_until(lambda: worker.scheduler.looks >= 3)  # for a place, in vain
            worker.scheduler.submit(later)
            permits.release(100)
            wait_until(place.queue.is_empty)
    assert engine.chunks == [[1], [2], [3]]  # tokens of the prompts, in the order in which they were read


def test_none_is_taken_while_a_request_waits_though_another_engine_has_places(place: Place) -> None:
    permits = threading.Semaphore(0)
    engine, exact = FakeEngine(1, vocabulary_size=VOCABULARY, permits=permits), FakeEngine(vocabulary_size=VOCABULARY)
    place.queue.send({"prompt": "She", "max_tokens": 1}, request_id="message")
    with running_worker(engine, exact=exact) as worker:
        for _ in range(2):
            worker.scheduler.submit(GenerationRequest(((65,),), (SamplingParams(),), max_tokens=1))
        with taking(worker, RequestQueue(place.queue.url)) as taker:
            wait_until(lambda: worker.scheduler.looks >= 5)
            taken = taker.in_flight
            permits.release(100)
            wait_until(place.queue.is_empty)
    assert taken == 0
    assert len(place.results()) == 1


def test_a_message_that_comes_with_the_last_poll_is_given_back_at_once(place: Place) -> None:
    class LastPoll(RequestQueue):
        def receive(self, most: int, *, wait: int, visibility: int) -> list[LambdaEvent]:
            records = super().receive(most, wait=wait, visibility=visibility)
            taker.stop()
            return records

    place.queue.send("She", request_id="late")
    with running_worker() as worker:
        taker = QueueWorker(LastPoll(place.queue.url), worker.adapter, worker.loading, pace=BRISK)
        taker.start()
        taker.finish()
        assert worker.scheduler.submitted == 0
    assert [message["Body"] for message in place.queue.receive()] == ["She"]


def test_a_message_for_which_there_is_no_thread_is_given_back_and_the_next_one_is_answered(place: Place) -> None:
    class Crowded(RequestQueue):
        def receive(self, most: int, *, wait: int, visibility: int) -> list[LambdaEvent]:
            records = super().receive(most, wait=wait, visibility=visibility)
            if records and not given_back:
                threading.stack_size(2**46)  # no process has room for a thread of that size
            return records

        def hide(self, handles: Sequence[str], seconds: int) -> None:
            threading.stack_size(0)
            given_back.extend(handles)
            super().hide(handles, seconds)

    given_back: list[str] = []
    place.queue.send("She", request_id="one")
    with running_worker() as worker, taking(worker, Crowded(place.queue.url)) as taker:
        wait_until(lambda: place.queue.is_empty() and taker.in_flight == 0)
    assert len(given_back) == 1
    assert list(place.results()) == ["results/sqs/one.json"]


def test_what_cannot_be_finished_is_given_back(place: Place) -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(vocabulary_size=VOCABULARY, permits=permits)
    body = '{"prompt": "She", "max_tokens": 2}'
    place.queue.send(body, request_id="stuck")
    with running_worker(engine) as worker, taking(worker, RequestQueue(place.queue.url)) as taker:
        wait_until(lambda: worker.scheduler.submitted == 1)
        taker.stop()
        assert place.queue.receive() == []
        taker.give_back()
        # The last poll may bring it once more, and gives it back, too.
        wait_until(lambda: [message["Body"] for message in place.queue.receive()] == [body])
        permits.release(100)


def test_a_message_is_nobody_elses_however_long_it_takes(place: Place) -> None:
    permits = threading.Semaphore(0)
    engine = FakeEngine(vocabulary_size=VOCABULARY, permits=permits)
    place.queue.send({"prompt": "She", "max_tokens": 2}, request_id="long")
    queue = FaultyQueue(place.queue.url)
    with running_worker(engine) as worker, taking(worker, queue, Pace(poll=0, visibility=1)):
        wait_until(lambda: queue.hidden.count((1, 1)) == 4)  # each a third of the visibility after the one before
        assert place.queue.receive() == []
        permits.release(100)
        wait_until(place.queue.is_empty)
        assert worker.scheduler.submitted == 1
    assert list(place.results()) == ["results/sqs/long.json"]


def test_a_result_that_was_kept_before_a_crash_is_not_made_again(place: Place) -> None:
    place.queue.send("She said", request_id="one")
    queue = FaultyQueue(place.queue.url, deleting=[EndpointConnectionError(endpoint_url="SQS")])
    with running_worker() as worker, taking(worker, queue, Pace(poll=0, visibility=1)):
        wait_until(place.queue.is_empty)
        assert worker.scheduler.submitted == 1
    assert list(place.results()) == ["results/sqs/one.json"]


def test_a_second_delivery_generates_and_changes_nothing(place: Place) -> None:
    with running_worker() as worker, taking(worker, RequestQueue(place.queue.url)):
        for _ in range(2):
            place.queue.send({"prompt": "She", "max_tokens": 5}, request_id="one", reply_queue=place.replies.arn)
            wait_until(place.queue.is_empty)
        assert worker.scheduler.submitted == 1
    first, second = [json.loads(message["Body"]) for message in place.replies.receive()]
    assert first == second


def test_what_can_never_succeed_is_buried_with_its_reason_and_the_others_are_answered(place: Place) -> None:
    place.queue.send('{"prompt": "a", "colour": 1}', request_id="bad", campaign="spring")
    place.queue.send("She", request_id="good")
    with running_worker() as worker, taking(worker, RequestQueue(place.queue.url)):
        wait_until(place.queue.is_empty)

    assert list(place.results()) == ["results/sqs/good.json"]
    [buried] = place.dead_letters.receive()
    texts = {name: attribute["StringValue"] for name, attribute in buried["MessageAttributes"].items()}
    assert (buried["Body"], texts) == (
        '{"prompt": "a", "colour": 1}',
        {"request_id": "bad", "campaign": "spring", "error": "invalid_value: Unknown field: `colour`."},
    )


def test_what_failed_for_now_is_tried_again_and_moved_to_the_dead_letters_by_sqs(place: Place) -> None:
    class FailsAtTwo(FakeEngine):
        def prefill(
            self, slots: Sequence[int], chunks: Sequence[Sequence[int]], *, all_logits: bool = False
        ) -> list[FloatArray]:
            self.fail_with = RuntimeError("the prompt was: secret") if 2 in map(len, chunks) else None
            return super().prefill(slots, chunks, all_logits=all_logits)

    other = GenerationRequest(((65,),), (SamplingParams(),), max_tokens=1)
    place.queue.send({"prompt": [65, 66]}, request_id="one")
    engine = FailsAtTwo(vocabulary_size=VOCABULARY)
    with running_worker(engine) as worker, taking(worker, RequestQueue(place.queue.url)):
        while not place.queue.is_empty():  # as long as the engine answers others, it has not failed for good
            with suppress(RuntimeError):
                list(worker.scheduler.submit(other))
    assert [message["Body"] for message in place.dead_letters.receive()] == ['{"prompt": [65, 66]}']
    assert place.results() == {}


def test_where_the_engine_has_failed_for_good_messages_are_left_to_others(place: Place) -> None:
    engine = FakeEngine(1, vocabulary_size=VOCABULARY)
    engine.fail_with = RuntimeError("CUDA error: device-side assert triggered")
    for i in range(5):
        place.queue.send({"prompt": "She", "max_tokens": 2}, request_id=f"m{i}")
    with running_worker(engine) as worker, taking(worker, RequestQueue(place.queue.url)) as taker:
        wait_until(lambda: worker.scheduler.submitted == 3 and taker.in_flight == 0)
        looks = worker.scheduler.looks
        wait_until(lambda: worker.scheduler.checks >= 8)  # whether it has recovered, in vain
        assert (worker.scheduler.submitted, worker.scheduler.looks) == (3, looks)
        engine.fail_with = None
        list(worker.scheduler.submit(GenerationRequest(((65,),), (SamplingParams(),), max_tokens=1)))
        wait_until(place.queue.is_empty)
    assert len(place.results()) == 5


def test_a_queue_that_cannot_be_read_is_asked_again(place: Place, log: io.StringIO) -> None:
    throttled = ClientError({"Error": {"Code": "ThrottlingException", "Message": "Slow down."}}, "ReceiveMessage")
    place.queue.send("She", request_id="one")
    queue = FaultyQueue(place.queue.url, receiving=[throttled, NoCredentialsError(), NoCredentialsError()])
    with running_worker() as worker, taking(worker, queue):
        wait_until(place.queue.is_empty)
    failures = [line["error"] for line in logged(log, "queue not read")]
    assert failures == ["ClientError", "NoCredentialsError", "NoCredentialsError"]
    assert list(place.results()) == ["results/sqs/one.json"]
