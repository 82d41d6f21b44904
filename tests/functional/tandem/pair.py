"""A front and a GPU service that it forwards to, both over the fake engine, the service behind a real port."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handler.tandem.exchange import SERVED_BY
from handler.tandem.lookout import Lookout
from tests.fake_engine import FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.services import VOCABULARY, make_settings, running_app
from tests.serving import served, wait_until

SECRET = "s3cret-" * 5

BODY = {"model": "tiny", "prompt": [65], "max_tokens": 4, "temperature": 0}

TEXT = tiny_tokenizer(VOCABULARY).decode(continuation([65], 4, VOCABULARY))


class GpuService:
    """The service's application, and what may be wrong with it; `/readyz` is answered as ever.

    Attributes:
        address: where it listens.
        asked: the headers of what it was asked.
        answer: what it is answered with in place of the application's answer: a status, and whether the answer names
            the request, as the service's own do and a load balancer's do not.
        silent: whether requests are left without an answer.
        breaks_after: after how many parts of its body an answer breaks off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.address = ""
        self.recover()

    def recover(self) -> None:
        """Be well again, and forget."""
        self.asked: list[dict[str, str]] = []
        self.answer: tuple[int, bool] | None = None
        self.silent = False
        self.breaks_after: int | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/readyz":
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append(headers)
        if self.silent:
            while (await receive())["type"] != "http.disconnect":
                pass
        elif self.answer is not None:
            status, its_own = self.answer
            named = [(b"x-request-id", headers["x-request-id"].encode())] if its_own else []
            await send({"type": "http.response.start", "status": status, "headers": named})
            await send({"type": "http.response.body", "body": b"no answer"})
        else:
            await self._app(scope, receive, self._breaking(send))

    def _breaking(self, send: Send) -> Send:
        parts = 0

        async def send_or_break(message: Message) -> None:
            nonlocal parts
            if message["type"] == "http.response.body":
                if parts == self.breaks_after:
                    raise _BrokenOffError
                parts += 1
            await send(message)

        return send_or_break


class _BrokenOffError(Exception):
    """The server closes the connection then."""


@contextmanager
def gpu_service(engine: FakeEngine | None = None) -> Iterator[GpuService]:
    """A service that lets in the front, and nobody else."""
    with running_app(engine or fake_engine(), make_settings(auth_mode="iam", tandem_key=SECRET)) as app:
        service = GpuService(app)
        with served(service) as client:
            service.address = f"http://{client.base_url.host}:{client.base_url.port}"
            yield service


@contextmanager
def front(service: GpuService, engine: FakeEngine | None = None) -> Iterator[FastAPI]:
    """The front's application, when it believes that the service is awake."""
    with running_app(engine or fake_engine(), make_settings(gpu_url=service.address, tandem_key=SECRET)) as app:
        wait_until(lookout_of(app).awake)
        yield app


def fake_engine(**how: Any) -> FakeEngine:
    return FakeEngine(vocabulary_size=VOCABULARY, **how)


def lookout_of(app: FastAPI) -> Lookout:
    given = [each for middleware in app.user_middleware for each in middleware.kwargs.values()]
    [lookout] = [each for each in given if isinstance(each, Lookout)]
    return lookout


def by_gpu(headers: Mapping[str, str]) -> bool:
    return headers.get(SERVED_BY.decode()) == "gpu"
