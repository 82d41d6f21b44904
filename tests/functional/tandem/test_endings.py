"""A GPU service that ends while it is asked: killed, asked to end, and started again; no request is lost."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import openai
import pytest

from lifecycle.local.invoke import free_port
from tests.fake_engine import continuation
from tests.functional.tandem.pair import SECRET, TEXT, fake_engine
from tests.models import tiny_tokenizer
from tests.services import VOCABULARY, make_settings, running_app
from tests.serving import served, wait_until, wait_until_ready

Process = subprocess.Popen[bytes]


@contextmanager
def slow_service(port: int) -> Iterator[Process]:
    command = [sys.executable, "-m", "tests.functional.tandem.slow_service", str(port), "0.03"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}/readyz")
            yield process
        finally:
            process.kill()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def client(port: int) -> Iterator[openai.OpenAI]:
    """Of a front whose service listens on the port, or will."""
    settings = make_settings(gpu_url=f"http://127.0.0.1:{port}", tandem_key=SECRET)
    with running_app(fake_engine(), settings) as app, served(app) as client:
        yield client


def answered_by_gpu(client: openai.OpenAI) -> bool:
    """Ask, see that the answer is right, and tell who gave it."""
    raw = client.completions.with_raw_response.create(model="tiny", prompt=[65], max_tokens=4, temperature=0)
    assert raw.parse().choices[0].text == TEXT
    return raw.headers.get("x-served-by") == "gpu"


def test_a_service_that_is_killed_breaks_streams_off_and_nothing_else(client: openai.OpenAI, port: int) -> None:
    assert not answered_by_gpu(client)
    with slow_service(port) as process:
        wait_until(lambda: answered_by_gpu(client))
        stream = client.completions.create(model="tiny", prompt=[65], max_tokens=50, temperature=0, stream=True)
        next(stream)
        with ThreadPoolExecutor(20) as threads:
            answers = [threads.submit(answered_by_gpu, client) for _ in range(20)]
            process.send_signal(signal.SIGKILL)
            assert len([answer.result() for answer in answers]) == 20
        with pytest.raises(openai.APIError, match="What was making this text went away"):
            list(stream)
    assert not answered_by_gpu(client)


def test_one_that_is_asked_to_end_finishes_what_it_has_accepted(client: openai.OpenAI, port: int) -> None:
    with slow_service(port) as process:
        wait_until(lambda: answered_by_gpu(client))
        stream = client.completions.create(model="tiny", prompt=[65], max_tokens=20, temperature=0, stream=True)
        first = next(stream).choices[0].text
        process.terminate()
        assert not answered_by_gpu(client) or process.poll() is None
        rest = "".join(chunk.choices[0].text for chunk in stream)
    assert first + rest == tiny_tokenizer(VOCABULARY).decode(continuation([65], 20, VOCABULARY))


def test_all_are_answered_while_the_service_starts_again(client: openai.OpenAI, port: int) -> None:
    def ask(times: int) -> list[bool]:
        return [answered_by_gpu(client) for _ in range(times)]

    with ThreadPoolExecutor(20) as threads:
        with slow_service(port) as process:
            wait_until(lambda: answered_by_gpu(client))
            answers = [threads.submit(ask, 20) for _ in range(20)]
            process.terminate()
            process.wait()
        with slow_service(port):
            wait_until(lambda: answered_by_gpu(client))
        given = [by_gpu for answer in answers for by_gpu in answer.result()]
    assert len(given) == 400
