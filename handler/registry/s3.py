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

from handler.errors import (
    AccessDeniedError,
    ConflictError,
    CorruptModelError,
    NotInRegistryError,
    RegistryError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 8

_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)
_TRANSPORT = (botocore.exceptions.ConnectionError, HTTPClientError, IncompleteReadError, FlexibleChecksumError)
_THROTTLING = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout"}
_REFUSALS = {"ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed"}


def s3_client(attempts: int = 1) -> "S3Client":
    """A client as the registry wants it; region, credentials and `AWS_ENDPOINT_URL_S3` come from the environment.

    Args:
        attempts: how often boto3 tries a request. The loader tries again by itself, for boto3 does so only until the
            body begins; writing is left to boto3.
    """
    client: S3Client = boto3.client(
        "s3",
        config=Config(
            # For a connection that hangs, not for a whole file.
            connect_timeout=2,
            read_timeout=10,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            max_pool_connections=THREADS,
        ),
    )
    return client


@contextmanager
def translated(bucket: str, key: str) -> Iterator[None]:
    """Turn whatever boto3 raises inside into an error of the registry that names the object.

    Raises:
        NotInRegistryError: there is no such bucket or object.
        AccessDeniedError: there are no credentials, or they do not allow this.
        ConflictError: a condition (`If-Match`, `If-None-Match`) was not met.
        CorruptModelError: the object ends before the range asked for.
        StoreUnavailableError: throttled, failed on S3's side or on the way; worth trying again.
        RegistryError: anything else S3 refused.
    """
    where = f"s3://{bucket}/{key}"
    try:
        yield
    except ClientError as error:
        raise _translate(error, where) from error
    except _CREDENTIALS as error:
        raise AccessDeniedError(f"{where} cannot be reached without AWS credentials: {error}") from error
    except _TRANSPORT as error:
        raise StoreUnavailableError(
            f"{where}: the store did not answer as it should: {error}", retry_after=1
        ) from error
    except BotoCoreError as error:
        raise RegistryError(f"{where}: {error}") from error


def _translate(error: ClientError, where: str) -> RegistryError:
    # The answer to a HEAD has no body, so its code is only the status as text.
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    said = f"S3 answered {status} {code}"
    if status == 404:
        return NotInRegistryError(f"{where} does not exist: {said}")
    if status in (401, 403) or code in _REFUSALS:
        return AccessDeniedError(
            f"{where} may not be accessed: {said}"
            " (where s3:ListBucket is not granted, an object that does not exist is answered like this, too)"
        )
    if status == 412 or (status == 409 and code == "ConditionalRequestConflict"):
        return ConflictError(f"{where} was changed by somebody else: {said}")
    if status == 416:
        return CorruptModelError(f"{where} ends before it should: {said}")
    if status in (429, 503) or status >= 500 or code in _THROTTLING:
        return StoreUnavailableError(f"{where} cannot be had right now: {said}", retry_after=1)
    return RegistryError(f"{where}: {said}: {error.response.get('Error', {}).get('Message', '')}")
