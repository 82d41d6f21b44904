"""The SDK's clients: one of each service for the whole process, made when it is first needed.

Importing boto3 and making a client take a fifth of a second, so whoever does without does not wait for it.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@lru_cache(maxsize=1)
def dynamodb() -> "DynamoDBClient":
    """A client of DynamoDB that gives up on a slow table in a second, not in boto3's minute."""
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    # A session of its own: the default one would remember credentials that a snapshot has outlived.
    config = Config(connect_timeout=0.5, read_timeout=1, retries={"total_max_attempts": 3, "mode": "standard"})
    client: DynamoDBClient = boto3.Session().client("dynamodb", config=config)
    return client


def forget_clients() -> None:
    """Close every connection, and let whoever asks next have a new client with credentials of its own time."""
    if dynamodb.cache_info().currsize:
        dynamodb().close()
    dynamodb.cache_clear()
