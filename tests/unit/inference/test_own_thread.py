"""What a backend does when it, its thread or its process fails or ends; how it rests is tested backend by backend."""

import subprocess
import sys
import threading

import pytest

from handler.errors import EngineUnavailableError
from handler.inference.protocol import GenerationRequest, SamplingParams, TokenGenerated
from handler.inference.scheduler import Scheduler
from tests.fake_engine import FakeEngine, continuation

REQUEST = GenerationRequest(((1,),), (SamplingParams(temperature=0),), max_tokens=5)

PROGRAM = """
from handler.inference.protocol import GenerationRequest, SamplingParams
from handler.inference.scheduler import Scheduler
from tests.models import config_json, random_engine

engine = random_engine(config_json(n_positions=1024))
request = GenerationRequest(((1,),), (SamplingParams(temperature=0),), max_tokens=1000)
events = iter(Scheduler(engine).submit(request))
print(next(events).token)
"""


def answer_of(scheduler: Scheduler) -> list[int]:
    return [event.token for event in scheduler.submit(REQUEST) if isinstance(event, TokenGenerated)]


def test_a_process_ends_in_peace_while_torch_is_at_work() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_after_some_failures_in_a_row_nobody_expects_an_answer() -> None:
    engine = FakeEngine()
    scheduler = Scheduler(engine)
    engine.fail_with = RuntimeError("CUDA error: device-side assert triggered")
    for _ in range(3):
        scheduler.check()
        with pytest.raises(RuntimeError, match="device-side assert"):
            answer_of(scheduler)
    with pytest.raises(EngineUnavailableError, match="3 times in a row"):
        scheduler.check()
    engine.fail_with = None

    assert answer_of(scheduler) == continuation((1,), 5)
    scheduler.check()
    scheduler.close()


def test_where_no_thread_can_be_started_a_request_fails_and_the_next_one_is_answered() -> None:
    scheduler = Scheduler(FakeEngine())
    before = threading.stack_size(2**46)  # no process has room for one of that size
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            scheduler.submit(REQUEST)
    finally:
        threading.stack_size(before)
    assert answer_of(scheduler) == continuation((1,), 5)
    scheduler.close()
