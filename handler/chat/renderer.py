"""Has templates rendered by `sandbox.py`, in a process that is kept from one conversation to the next."""

import json
import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handler.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

# A template takes a millisecond. The process itself starts in a tenth of a second, which does not count.
RENDER_SECONDS = 1.0
START_SECONDS = 10.0

_PIECE_BYTES = 1 << 16


class Renderer:
    """Renders from any thread, one conversation at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None

    def render(self, template: str, variables: dict[str, Any]) -> str:
        """The text that a template makes of its variables.

        Raises:
            InvalidRequestError: the template refuses them, fails, or takes more time or memory than it may.
        """
        with self._lock:
            try:
                answer = self._ask({"template": template, "variables": variables})
            except TimeoutError:
                self.close()
                answer = {"error": f"it takes longer than {RENDER_SECONDS:g} s"}
            except (OSError, EOFError):
                self.close()
                answer = {"error": "it broke off"}
        if "error" in answer:
            raise InvalidRequestError(
                f"`messages` cannot be rendered by the model's chat template: {answer['error'][:200]}.",
                param="messages",
            )
        return answer["text"]

    def close(self) -> None:
        """End the process; the next conversation starts another."""
        self._process = None
        self._end()

    def _ask(self, request: dict[str, Any]) -> dict[str, str]:
        if self._process is None:
            self._process = _start()
            self._end = weakref.finalize(self, _end, self._process)  # with the renderer at the latest
            self._exchange(self._process, {"template": "", "variables": {}}, START_SECONDS)
        return self._exchange(self._process, request, RENDER_SECONDS)

    @staticmethod
    def _exchange(process: "subprocess.Popen[bytes]", request: dict[str, Any], seconds: float) -> dict[str, str]:
        """One line there and one line back.

        Raises:
            TimeoutError: it took too long.
            EOFError: the process is gone.
        """
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        end = time.monotonic() + seconds
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                piece = os.read(process.stdout.fileno(), _PIECE_BYTES)
                if not piece:
                    raise EOFError
                line += piece
        answer: dict[str, str] = json.loads(line)
        return answer


def _start() -> "subprocess.Popen[bytes]":
    """The process, without our environment, which holds credentials."""
    return subprocess.Popen(
        [sys.executable, "-m", "handler.chat.sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={"PYTHONPATH": str(Path(__file__).parent.parent.parent)},
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()
