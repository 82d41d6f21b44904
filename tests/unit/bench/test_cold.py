"""The pieces of the cold-start benchmark: the cap on the network, the store's log, the tokenizer of GPT-2's size."""

import json
import threading

import pytest

from bench.cold.checkpoints import MERGES, byte_pair_tokenizer
from bench.cold.store import Read, read_of
from bench.cold.throttle import BURST_SECONDS, Meter
from handler.inference.tokenizer import Tokenizer


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_so_many_bytes_pass_a_second_and_no_more() -> None:
    clock = Clock()
    meter = Meter(1000, clock, clock.sleep)
    for _ in range(100):
        meter.take(50)
    assert clock.now - 100 == pytest.approx(5.0, abs=BURST_SECONDS)


def test_time_that_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    meter = Meter(1000, clock, clock.sleep)
    clock.sleep(60)
    meter.take(1000)
    assert clock.now - 160 == pytest.approx(1 - BURST_SECONDS, abs=1e-6)


def test_connections_share_the_cap() -> None:
    clock = Clock()
    meter = Meter(1000, clock, clock.sleep)
    threads = [threading.Thread(target=meter.take, args=[500]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now - 100 >= 2 - BURST_SECONDS - 1e-6


def test_a_line_of_the_stores_log() -> None:
    line = {"ended": 12.5, "seconds": 0.5, "status": 206, "bytes": 7, "path": "/models/a", "range": "bytes=0-6"}
    assert read_of(json.dumps(line)) == Read(12.0, 12.5, 206, 7, "/models/a", "bytes=0-6")


def test_the_tokenizer_is_of_gpt2s_size_and_ours_reads_it() -> None:
    tokenizer = Tokenizer(byte_pair_tokenizer().encode())
    assert tokenizer.vocabulary_size == 256 + MERGES + 1
    assert tokenizer.decode(tokenizer.encode("Once upon a time")) == "Once upon a time"
