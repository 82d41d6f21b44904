"""What the commands on published models have in common: the bucket they work on."""

from typing import TYPE_CHECKING, Annotated

from typer import Option

if TYPE_CHECKING:
    from lifecycle.store import WritableStore

Bucket = Annotated[str, Option(envvar="MODELS_BUCKET", help="S3 bucket of the models.")]


def open_store(bucket: str) -> "WritableStore":
    """The models bucket, through a client that tries a request several times."""
    from handler.registry.s3 import s3_client  # noqa: PLC0415
    from lifecycle.store import WritableStore  # noqa: PLC0415

    return WritableStore(s3_client(attempts=5), bucket)
