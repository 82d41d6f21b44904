"""An S3 that answers every request as it is told to: real bytes over a real connection, for what moto never does."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from threading import Thread

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from mypy_boto3_s3 import S3Client

from handler.registry.wire import Bucket, S3Reader


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in self.server.headers:
            self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.server.body)
        self.close_connection = True

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.headers, self.body = status, headers, body


@contextmanager
def answering(status: int, body: bytes, tls: SSLContext | None = None, **headers: str) -> Iterator[str]:
    """The address of a server that gives this answer to everything; `Content_Length` may promise more than there is."""
    server = _Server(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client_of(address: str) -> S3Client:
    """A client of the SDK's that tries once, with credentials that open nothing."""
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=1),
    )
    return client


def reader_of(address: str) -> S3Reader:
    """The registry's own reader of a bucket there."""
    return Bucket("bucket", f"{address}/bucket", "us-east-1", Credentials("testing", "testing")).open()
