"""moto's S3 behind a server that fails as often as it is told to: what S3 does under load, and moto never."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pytest
from botocore.retries.standard import ExponentialBackoff
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BODY = b"<Error><Code>%s</Code><Message>told to fail</Message></Error>"


@dataclass
class Flaky:
    """A running server.

    Attributes:
        endpoint: its address.
        failures: status and code of the answers to the next requests; when empty, moto answers.
        lost_answers: before so many of those answers moto does what it was asked for, and its own answer is lost.
        requests: the method and path of each request there was.
    """

    endpoint: str = ""
    failures: deque[tuple[int, str]] = field(default_factory=deque)
    lost_answers: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def flaky_s3() -> Iterator[Flaky]:
    """Run one on a free port."""
    flaky = Flaky()
    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        flaky.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if not flaky.failures:
            answer: Iterable[bytes] = moto(environ, start_response)
            return answer
        status, code = flaky.failures.popleft()
        if flaky.lost_answers:
            flaky.lost_answers -= 1
            list(moto(environ, lambda *_: None))
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = BODY % code.encode()
        start_response(f"{status} Failure", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    server = make_server("127.0.0.1", 0, app, threaded=True)
    flaky.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            # As often as ever, but at once: boto3 waits for up to seconds before it tries again.
            patch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
            yield flaky
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
