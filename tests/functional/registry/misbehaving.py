"""A proxy before an S3 that does to its answers what networks and stores do on their bad days.

Requests and answers are real, and so are the connections: what is cut is cut in the middle of a body, what is reset is
reset by the kernel, and what hangs hangs until the test is over.
"""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Literal
from urllib.parse import urlsplit


@dataclass
class Answer:
    """An answer on its way, for faults to change.

    Attributes:
        path: what was asked for.
        start: the first byte asked for; 0 for a whole object.
        status: the answer's.
        headers: likewise, but for the length of the body.
        body: likewise; so many bytes are promised.
        sent: how many of them leave.
        end: what becomes of the connection then: it is kept for the next request, closed, reset, or nothing is heard of
            it any more; `mute` says nothing in the first place.
    """

    path: str
    start: int
    status: int
    headers: dict[str, str]
    body: bytes
    sent: int | None = None
    end: Literal["kept", "closed", "reset", "silent", "mute"] = "kept"


# Changes an answer, and returns whether it did.
Fault = Callable[[Answer], bool]


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        endpoint: its address.
        faults: what every answer meets.
        struck: how often one of them changed something.
        reads: path and first byte of each request there was.
    """

    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    struck: int = 0
    reads: list[tuple[str, int]] = field(default_factory=list)
    over: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    def meet(self, answer: Answer) -> None:
        """Have an answer meet the faults, one answer at a time."""
        with self.lock:
            self.reads.append((answer.path, answer.start))
            self.struck += sum(fault(answer) for fault in self.faults)


def once(fault: Fault) -> Fault:
    """A fault that goes away when it has struck."""
    left = [fault]

    def strike(answer: Answer) -> bool:
        if left and left[0](answer):
            left.clear()
            return True
        return False

    return strike


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        answer = self._ask()
        self.server.proxy.meet(answer)
        if answer.end != "mute":
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.sent])
        if answer.end in ("silent", "mute"):
            self.server.proxy.over.wait()
        if answer.end == "reset":  # closed with nothing to linger for, a connection is reset (socket(7))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        self.close_connection = answer.end != "kept"

    def _ask(self) -> Answer:
        connection = HTTPConnection(*self.server.store)
        connection.request("GET", self.path, headers=dict(self.headers.items()))
        with connection.getresponse() as said:
            body = said.read()
        connection.close()
        wanted = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
        kept = {name: said.headers[name] for name in ("ETag", "Content-Range") if name in said.headers}
        return Answer(self.path, int(wanted.partition("-")[0]), said.status, kept, body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self, store: tuple[str, int], proxy: Proxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store, self.proxy = store, proxy


@contextmanager
def misbehaving(store: str) -> Iterator[Proxy]:
    """Run one before the S3 at this address; without faults it hands everything on as it is."""
    proxy, address = Proxy(), urlsplit(store)
    server = _Server((str(address.hostname), int(address.port or 80)), proxy)
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
