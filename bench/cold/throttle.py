"""A cap on the network: a TCP proxy that lets so many bytes a second through, of all its connections together.

What comes back from the server is metered; requests are not. It is a process of its own (`python -m
bench.cold.throttle SERVER_PORT MIB_PER_SECOND` prints its port), so that it takes no time from whoever measures.
nginx's own limit is per connection, which a reader with eight of them escapes.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MIB: Final = 2**20
CHUNK: Final = 128 * 1024

# Sleeping takes a little longer than asked for; what was missed is made up for, up to this much.
BURST_SECONDS: Final = 0.02


class Meter:
    """A token bucket: `take` returns when the bytes may pass. Thread-safe."""

    def __init__(
        self,
        bytes_per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """A bucket that holds `BURST_SECONDS` at most."""
        self._rate, self._clock, self._sleep = bytes_per_second, clock, sleep
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, count: int) -> None:
        """Wait until `count` bytes more may pass."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock() - BURST_SECONDS) + count / self._rate
            wait = self._free_at - self._clock()
        if wait > 0:
            self._sleep(wait)


def serve(listener: socket.socket, server: tuple[str, int], meter: Meter) -> None:
    """Connect whoever calls with the server, until the listener is closed."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        upstream = socket.create_connection(server)
        for connection in (client, upstream):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink, metered in ((client, upstream, None), (upstream, client, meter)):
            threading.Thread(target=_copy, args=(source, sink, metered), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket, meter: Meter | None) -> None:
    """Copy until one side ends, and tell the other."""
    buffer = memoryview(bytearray(CHUNK))
    with suppress(OSError):
        while count := source.recv_into(buffer):
            if meter is not None:
                meter.take(count)
            sink.sendall(buffer[:count])
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def throttled(port: int, mib_per_second: float) -> Iterator[int]:
    """The port of a proxy before the server on `port`, in a process of its own."""
    command = [sys.executable, "-m", "bench.cold.throttle", str(port), str(mib_per_second)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            yield int(process.stdout.readline())
        finally:
            process.terminate()


if __name__ == "__main__":
    waiting = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sys.stdout.write(f"{waiting.getsockname()[1]}\n")
    sys.stdout.flush()
    serve(waiting, ("127.0.0.1", int(sys.argv[1])), Meter(float(sys.argv[2]) * MIB))
