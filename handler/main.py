"""The Lambda entry point: `handler(event, context)` asks each event adapter in turn.

The first thing is to have the kernel read what will be imported, the second to load the model, before the web framework
is even imported. What initialisation leaves undone (Lambda allows it ten seconds) goes on in the background, and the
first request waits for it within its deadline.
"""

import gc

from handler.readahead import read_ahead

read_ahead()
gc.disable()  # Nearly all that is imported stays, and to look through it again and again takes a tenth of the time.

import os  # noqa: E402

from handler.fetching import Fetching  # noqa: E402
from handler.stages import before_snapshot, cold_start  # noqa: E402

cold_start.reached("interpreter")
fetching = Fetching(os.environ, cold_start)
fetching.start()

# Imported only now: the model's bytes are on their way meanwhile.
from typing import Any  # noqa: E402

from handler.models import models_of  # noqa: E402
from handler.settings import settings  # noqa: E402

loading = models_of(settings(), os.environ, fetching, cold_start)
loaded = loading.start()

from handler.api.errors import told  # noqa: E402
from handler.app import create_app  # noqa: E402
from handler.aws import dynamodb_soon  # noqa: E402
from handler.deadline import LambdaContext  # noqa: E402
from handler.errors import UnknownEventError  # noqa: E402
from handler.events.sources import event_adapters  # noqa: E402
from handler.runtime.snapshot import SnapshotHooks  # noqa: E402

cold_start.reached("imports")

app = create_app(settings(), loading)
"""What answers HTTP: here through Mangum, or streaming, see `handler.runtime`."""

ADAPTERS = event_adapters(app, loading, settings())

checks_keys = settings().auth_mode == "api-key"
SnapshotHooks(loading, checks_keys=checks_keys).register()
if checks_keys and not loaded.done() and not before_snapshot():
    # It takes a fifth of a second, and as long as the model's bytes are arriving the interpreter has little else to do.
    dynamodb_soon()

gc.freeze()  # Nor need it be looked through later, in the middle of a request.
gc.enable()


def handler(event: Any, context: LambdaContext) -> Any:
    """Answer one event.

    Raises:
        ServiceError: the event is unknown or cannot be answered; Lambda reports its type and message to the caller.
    """
    if isinstance(event, dict):
        for adapter in ADAPTERS:
            if adapter.matches(event):
                try:
                    return adapter.handle(event, context)
                except Exception as error:  # noqa: BLE001 - Lambda would log, and tell, a bug's own words
                    raise told(error) from None
    recognised = "; ".join(adapter.description for adapter in ADAPTERS)
    raise UnknownEventError(f"No adapter recognises this event. Recognised are: {recognised}.")
