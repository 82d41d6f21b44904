"""The S3 stand-in that is fast enough to measure with: nginx over a folder, with ranges, ETags and If-Match.

A path-style request for an object, `/BUCKET/KEY`, is a file of the folder; signatures are not looked at. Its access
log says what was read and when, whatever the reader says of itself.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lifecycle.local.invoke import free_port, wait_for

INSTALL: Final = (
    "nginx is missing, which stands in for S3 here: apt-get install -y --no-install-recommends nginx-light, "
    "or any nginx in PATH"
)

_CONFIGURATION: Final = """
{user}
daemon off;
worker_processes auto;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    log_format json escape=json '{{"ended": $msec, "seconds": $request_time, "status": $status, '
        '"bytes": $body_bytes_sent, "path": "$uri", "range": "$http_range"}}';
    access_log {folder}/access.log json;
    {temporary}
    default_type application/octet-stream;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 60s;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {root};
    }}
}}
"""


class StoreError(Exception):
    """nginx cannot be started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Read:
    """A request as the store saw it.

    Attributes:
        began: when it came, on the clock of `time.time()`.
        ended: when the last byte of the answer was handed over.
        status: the answer's.
        size: bytes of the body that were sent.
        path: what was asked for.
        range: which part of it; "" for all.
    """

    began: float
    ended: float
    status: int
    size: int
    path: str
    range: str


@dataclass(frozen=True, slots=True)
class Store:
    """A running stand-in: its port on this machine, and its log."""

    port: int
    log: Path

    def reads(self) -> list[Read]:
        """Every request that was answered since the log was last cleared, in the order in which they ended."""
        return [read_of(line) for line in self.log.read_text().splitlines()]

    def clear(self) -> None:
        """Forget the requests so far; nginx appends, so that the file may simply be emptied."""
        os.truncate(self.log, 0)


@contextmanager
def serving(root: Path) -> Iterator[Store]:
    """Serve a folder of buckets.

    Raises:
        StoreError: there is no nginx, or it does not start.
    """
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise StoreError(INSTALL)
    with tempfile.TemporaryDirectory(prefix="store-") as name:
        folder, port = Path(name), free_port()
        (folder / "nginx.conf").write_text(configuration(root, folder, port))
        # -e, because the log that is compiled in may be another user's.
        command = [program, "-p", name, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
        process = subprocess.Popen(command)
        try:
            try:
                wait_for(port)
            except OSError as error:
                raise StoreError(f"nginx does not answer: {(folder / 'error.log').read_text():.500}") from error
            yield Store(port, folder / "access.log")
        finally:
            process.terminate()
            process.wait()


def configuration(root: Path, folder: Path, port: int) -> str:
    """Nginx's configuration; whatever it writes lies in `folder`."""
    kinds = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    return _CONFIGURATION.format(
        # Started by root, its workers would be somebody else, who may not read the folder.
        user="user root;" if os.geteuid() == 0 else "",
        temporary=" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds),
        root=root, folder=folder, port=port,
    )  # fmt: skip


def read_of(line: str) -> Read:
    """A line of the access log."""
    entry = json.loads(line)
    ended = float(entry["ended"])
    return Read(
        ended - float(entry["seconds"]), ended, entry["status"], entry["bytes"], entry["path"], entry["range"]
    )  # fmt: skip


def settled(store: Store, seconds: float = 0.05) -> list[Read]:
    """The reads, after nginx has had the time to write down the last."""
    time.sleep(seconds)
    return store.reads()
