"""A GPU service's container that ends while it is asked: no request is lost, however it ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import openai
import pytest

from lifecycle.local.invoke import free_port
from tests.fake_engine import continuation
from tests.functional.container.running import SLOW
from tests.functional.tandem.pair import SECRET, TEXT, by_gpu, fake_engine
from tests.models import tiny_tokenizer
from tests.services import VOCABULARY, make_settings, running_app
from tests.serving import served, wait_until, wait_until_ready

CLIENTS = 20


@contextmanager
def slow_service(port: int) -> Iterator[subprocess.Popen[bytes]]:
    variables = {
        **os.environ,
        "MODELS_BUCKET": "models",
        "MODEL_NAME": "tiny",
        "AUTH_MODE": "iam",
        "TANDEM_KEY": SECRET,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DRAIN_SECONDS": "2",
        "SECONDS_PER_STEP": "0.02",
    }
    # Nobody reads its log, which is long.
    with subprocess.Popen([sys.executable, "-m", SLOW], env=variables, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}/readyz")
            yield process
        finally:
            process.kill()


def answered_by_gpu(client: openai.OpenAI) -> bool:
    """Ask, see that the answer is right, and tell who gave it."""
    raw = client.completions.with_raw_response.create(model="tiny", prompt=[65], max_tokens=4, temperature=0)
    assert raw.parse().choices[0].text == TEXT
    return by_gpu(raw.headers)


def streamed(client: openai.OpenAI) -> Iterator[str]:
    """The texts of a stream that takes half a second."""
    stream = client.completions.create(model="tiny", prompt=[65], max_tokens=25, temperature=0, stream=True)
    return (chunk.choices[0].text for chunk in stream)


def test_whatever_becomes_of_the_service_every_request_is_answered_and_streams_end() -> None:
    port = free_port()
    settings = make_settings(gpu_url=f"http://127.0.0.1:{port}", tandem_key=SECRET)
    with slow_service(port) as first, running_app(fake_engine(), settings) as app, served(app) as client:
        done = threading.Event()

        def ask_all_the_time() -> list[bool]:
            answers = [answered_by_gpu(client)]
            while not done.wait(0.1):
                answers.append(answered_by_gpu(client))
            return answers

        with ThreadPoolExecutor(CLIENTS) as threads:
            try:
                wait_until(lambda: answered_by_gpu(client))
                asking = [threads.submit(ask_all_the_time) for _ in range(CLIENTS)]

                # Asked to end, it finishes what it has accepted.
                stream = streamed(client)
                begun = next(stream)
                first.terminate()
                assert begun + "".join(stream) == tiny_tokenizer(VOCABULARY).decode(continuation([65], 25, VOCABULARY))
                assert first.wait() == 0
                assert not answered_by_gpu(client)

                # Another one takes its place, and is killed.
                with slow_service(port) as second:
                    wait_until(lambda: answered_by_gpu(client))
                    stream = streamed(client)
                    next(stream)
                    second.send_signal(signal.SIGKILL)
                    with pytest.raises(openai.APIError, match="What was making this text went away"):
                        list(stream)
                    assert not answered_by_gpu(client)
            finally:
                done.set()
            assert {True, False} == {whose for answers in asking for whose in answers.result()}
