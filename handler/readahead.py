"""Has the kernel read what is about to be imported, while the interpreter imports one file after the other.

In an environment that has just been made nothing of the image is in memory, and an import waits for each of its
hundreds of files. So the image holds a list of them, in the order in which they are needed: `READ_AHEAD` says where,
and `python -m handler.readahead_list` writes it when the image is built. A process of its own goes through it, since a
thread would wait for the interpreter's lock at every file. What is not there is passed over.
"""

import os
import threading
from contextlib import suppress


def read_ahead() -> None:
    """Begin, if `READ_AHEAD` names a list; returns at once."""
    listed = os.environ.get("READ_AHEAD")
    if not listed:
        return
    with suppress(OSError):  # no process to be had: then it goes without
        child = os.fork()
        if child == 0:
            try:
                _ask(listed)
            finally:
                os._exit(0)
        threading.Thread(target=os.waitpid, args=(child, 0), name="read ahead", daemon=True).start()


def _ask(listed: str) -> None:
    """Ask for each file; the kernel reads several at once, and nobody waits for them here."""
    with open(listed) as paths:  # noqa: PTH123 - to import pathlib takes a while
        for path in paths:
            with suppress(OSError):
                descriptor = os.open(path.rstrip("\n"), os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                os.close(descriptor)
