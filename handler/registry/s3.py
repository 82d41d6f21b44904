"""S3 as the registry uses it: the client it wants, and what S3's errors mean to somebody who needs a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
import botocore.exceptions
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from handler.errors import AccessDeniedError, RegistryError, StoreUnavailableError
from handler.registry.refusals import refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 8

# A worker answers so many lines at once, each of which may keep something; a connection that finds no room is closed.
CONNECTIONS = 16

_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)
_TRANSPORT = (botocore.exceptions.ConnectionError, HTTPClientError, IncompleteReadError, FlexibleChecksumError)


def s3_client(attempts: int = 1) -> "S3Client":
    """A client as the registry wants it; region, credentials and `AWS_ENDPOINT_URL_S3` come from the environment.

    Args:
        attempts: how often boto3 tries a request. The loader tries again by itself, for boto3 does so only until the
            body begins; writing is left to boto3.
    """
    client: S3Client = boto3.client(
        "s3",
        config=Config(
            # Where boto3 still presigns addresses by the older version (us-east-1), S3 refuses them for newer buckets.
            signature_version="s3v4",
            # For a connection that hangs, not for a whole file.
            connect_timeout=2,
            read_timeout=10,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
        ),
    )
    return client


@contextmanager
def translated(bucket: str, key: str) -> Iterator[None]:
    """Turn whatever boto3 raises inside into an error of the registry that names the object.

    Raises:
        AccessDeniedError: there are no credentials.
        StoreUnavailableError: nothing, or nothing sensible, came back; worth trying again.
        RegistryError: as `refusals.refusal` lists them.
    """
    where = f"s3://{bucket}/{key}"
    try:
        yield
    except ClientError as error:
        # The answer to a HEAD has no body, so its code is only the status as text.
        said = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise refusal(where, status, said.get("Code", ""), said.get("Message", "")) from error
    except _CREDENTIALS as error:
        raise AccessDeniedError(f"{where} cannot be reached without AWS credentials: {error}") from error
    except _TRANSPORT as error:
        raise StoreUnavailableError(
            f"{where}: the store did not answer as it should: {error}", retry_after=1
        ) from error
    except BotoCoreError as error:
        raise RegistryError(f"{where}: {error}") from error
