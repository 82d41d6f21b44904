"""`python -m handler.readahead_list`: writes where `READ_AHEAD` says what files a start reads, in the order it does.

Run when the image is built, in the environment of a function, whose model need not be there.
"""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Start as the function does, and note after each import what has come with it."""
    needed: dict[str, None] = {}
    sys.addaudithook(lambda event, _: needed.update(dict.fromkeys(_in_use())) if event == "import" else None)
    import_module("handler.main")
    import_module("handler.inference.native")  # for a model, and none is loaded here
    import_module("handler.inference.library").library()
    needed.update(dict.fromkeys(_in_use()))
    Path(os.environ["READ_AHEAD"]).write_text("\n".join(needed))


def _in_use() -> Iterator[str]:
    """The bytecode of the modules that this process has, but for this one's, and the libraries."""
    modules = [module for name, module in list(sys.modules.items()) if name != __name__]
    yield from (module.__cached__ for module in modules if getattr(module, "__cached__", None))
    with Path("/proc/self/maps").open() as maps:
        yield from (line.split(maxsplit=5)[5].rstrip("\n") for line in maps if ".so" in line)


if __name__ == "__main__":
    main()
