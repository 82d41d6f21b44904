"""Has the kernel read what is about to be imported, while the interpreter imports one file after the other.

In an environment that has just been made nothing of the image is in memory, and an import waits for each of its
hundreds of files. So the image holds a list of them, in the order in which they are needed: `READ_AHEAD` says where,
and `python -m handler.readahead` writes it when the image is built. A process of its own goes through it, because a
thread would wait for the interpreter's lock at every file. What is not there is passed over.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module


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


def _list(listed: str) -> None:
    """Write the list: the files that a start reads, in the order in which it does."""
    needed: dict[str, None] = {}
    sys.addaudithook(lambda event, _: needed.update(dict.fromkeys(_in_use())) if event == "import" else None)
    import_module("handler.main")
    import_module("handler.inference.native")  # for a model, and none is loaded here
    import_module("handler.inference.library").library()
    needed.update(dict.fromkeys(_in_use()))
    with open(listed, "w") as paths:  # noqa: PTH123
        paths.write("\n".join(needed))


def _in_use() -> Iterator[str]:
    """The bytecode of the modules that this process has, and the libraries."""
    yield from (module.__cached__ for module in list(sys.modules.values()) if getattr(module, "__cached__", None))
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        yield from (line.split(maxsplit=5)[5].rstrip("\n") for line in maps if ".so" in line)


if __name__ == "__main__":
    _list(os.environ["READ_AHEAD"])
