"""The results bucket: small objects, read whole and created once.

Everything the service keeps lies there, and nothing else does: conditional writes take the place of a database.
"""

from typing import TYPE_CHECKING, NoReturn

from handler.errors import ConflictError, NotInRegistryError, RegistryError, StorageUnavailableError
from handler.registry.s3 import s3_client, translated
from handler.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Throttled and failed requests are tried again by boto3, with jitter between; five attempts take 15 seconds at most.
ATTEMPTS = 5


class Storage:
    """One bucket. Every method raises StorageUnavailableError when S3 does not do as it is asked."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def read(self, key: str) -> bytes | None:
        """An object whole, or None where there is none."""
        try:
            with translated(self.bucket, key):
                return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except NotInRegistryError:
            return None
        except RegistryError as error:
            _unavailable(error)

    def create(self, key: str, data: bytes, content_type: str = "application/json") -> bool:
        """Write an object that must not exist yet; False if it does, and then nothing has changed."""
        try:
            with translated(self.bucket, key):
                self.client.put_object(
                    Bucket=self.bucket, Key=key, Body=data, ContentType=content_type, IfNoneMatch="*"
                )
        except ConflictError:
            return False
        except RegistryError as error:
            _unavailable(error)
        return True


def storage_of(bucket: str) -> Storage:
    """The storage in a bucket; region and credentials come from the environment.

    Raises:
        StorageUnavailableError: no bucket is named.
    """
    if not bucket:
        raise StorageUnavailableError("Results cannot be kept: RESULTS_BUCKET is not set.")
    return Storage(s3_client(ATTEMPTS), bucket)


def _unavailable(error: RegistryError) -> NoReturn:
    # Its words name buckets and keys, which are the operator's to know and not every client's.
    logger.error("storage failed", error=type(error).__name__, reason=error.message)
    raise StorageUnavailableError("The results bucket does not answer as it should.", retry_after=1) from error
