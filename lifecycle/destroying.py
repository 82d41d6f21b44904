"""The end of a stack. Buckets and keys outlive it by themselves; here they go as well, the models only if told to.

The stack goes first, so that nothing is written any more while the buckets are emptied.
"""

from functools import partial
from typing import Protocol

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from handler.errors import StoreUnavailableError
from lifecycle.deploying import Stack


class Remover(Protocol):
    """What deletes a stack: `sam`, or something that stands in for it."""

    def delete(self, stack: str) -> None:
        """Delete the stack, and wait until it is gone."""


def destroy(remover: Remover, name: str, stack: Stack, *, models: bool) -> None:
    """Delete a stack and what it leaves behind: API keys, results, files, batches, access logs of a GPU service.

    Args:
        remover: what deletes the stack itself.
        name: its name.
        stack: what is known of it.
        models: whether the models bucket goes, too, with every version of every model.

    Raises:
        StoreUnavailableError: something could not be deleted; what is left is named.
    """
    remover.delete(name)
    buckets = [stack.gpu_access_logs, stack.models_bucket if models else None]
    left = {
        f"s3://{stack.results_bucket}": partial(_delete_bucket, stack.results_bucket),
        f"table {stack.keys_table}": partial(_delete_table, stack.keys_table),
        **{f"s3://{bucket}": partial(_delete_bucket, bucket) for bucket in buckets if bucket},
    }
    try:
        for thing in list(left):
            left[thing]()
            del left[thing]
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailableError(
            f"The stack {name} is gone; left, to be deleted by hand: {', '.join(left)} ({error})"
        ) from error


def _delete_table(name: str) -> None:
    boto3.client("dynamodb").delete_table(TableName=name)


def _delete_bucket(name: str) -> None:
    """Delete a bucket with all that is in it, versions that were replaced or deleted included."""
    bucket = boto3.resource("s3").Bucket(name)
    bucket.object_versions.delete()
    bucket.delete()
