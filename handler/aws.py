"""The SDK's clients: one of each service for the whole process, made when it is first needed.

Importing boto3 and making a client take a fifth of a second, so whoever does without does not wait for it.
"""

import threading
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Held while a client is made: who needs it meanwhile waits for it, rather than make another one.
_making = threading.Lock()


def dynamodb() -> "DynamoDBClient":
    """A client of DynamoDB that gives up on a slow table in a second, not in boto3's minute."""
    with _making:
        return _dynamodb()


def dynamodb_soon() -> threading.Thread:
    """Have the client made in the background, for whoever needs it first; the thread that does."""
    thread = threading.Thread(target=_make, name="make client", daemon=True)
    thread.start()
    return thread


def forget_clients() -> None:
    """Close every connection, and let whoever asks next have a new client with credentials of its own time."""
    with _making:
        if _dynamodb.cache_info().currsize:
            _dynamodb().close()
        _dynamodb.cache_clear()


@lru_cache(maxsize=1)
def _dynamodb() -> "DynamoDBClient":
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    # A session of its own: the default one would remember credentials that a snapshot has outlived.
    config = Config(connect_timeout=0.5, read_timeout=1, retries={"total_max_attempts": 3, "mode": "standard"})
    client: DynamoDBClient = boto3.Session().client("dynamodb", config=config)
    return client


def _make() -> None:
    with suppress(BotoCoreError):  # whoever needs it hears of it
        dynamodb()
