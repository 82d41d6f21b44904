"""`python -m handler.runtime MODULE:APPLICATION [MODULE:HANDLER]`: the command of a function whose responses stream.

The application answers HTTP; the handler, `handler(event, context)` as awslambdaric knows it, all other events.
"""

import importlib
import os
import sys
from typing import Any


def main(targets: list[str]) -> None:
    """Import what is to run, and run it; what cannot be imported is told to Lambda."""
    address = os.environ["AWS_LAMBDA_RUNTIME_API"]
    try:
        application, *handler = map(_imported, targets)
    except Exception as error:
        _report(address, error)
        raise
    # Only now: the function's own first lines may begin something that takes long, and all of this would delay it.
    from handler.runtime.loop import serve  # noqa: PLC0415

    serve(address, application, *handler)


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _report(address: str, error: Exception) -> None:
    import asyncio  # noqa: PLC0415

    from handler.runtime.api import RuntimeApi  # noqa: PLC0415

    asyncio.run(RuntimeApi(address).fail_init(error))


if __name__ == "__main__":
    main(sys.argv[1:])
