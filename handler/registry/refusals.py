"""What S3's refusals mean to somebody who needs a model, whoever asked it: this registry's reader, or the SDK."""

from handler.errors import (
    AccessDeniedError,
    ConflictError,
    CorruptModelError,
    NotInRegistryError,
    RegistryError,
    StoreUnavailableError,
)

_THROTTLING = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout"}
_BAD_CREDENTIALS = {"ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed"}

_REASONS = {"RequestTimeTooSkewed": "this machine's clock is wrong, and with it the signature's date"}
_ABSENT = "where s3:ListBucket is not granted, an object that does not exist is answered like this, too"


def refusal(where: str, status: int, code: str, message: str = "") -> RegistryError:
    """The error for an answer of S3's that is none.

    Args:
        where: the object, as `s3://bucket/key`.
        status: the HTTP status.
        code: S3's error code, such as `NoSuchKey`; the answer to a HEAD has none.
        message: S3's own words, for what has no error of its own here.

    Returns:
        NotInRegistryError: there is no such bucket or object.
        AccessDeniedError: the credentials are none, or do not allow this, or are dated wrongly.
        ConflictError: a condition (`If-Match`, `If-None-Match`) was not met.
        CorruptModelError: the object ends before the range asked for.
        StoreUnavailableError: throttled, or failed on S3's side; worth trying again.
        RegistryError: anything else.
    """
    said = f"S3 answered {status} {code}"
    if status == 404:
        return NotInRegistryError(f"{where} does not exist: {said}")
    if status in (401, 403) or code in _BAD_CREDENTIALS:
        return AccessDeniedError(f"{where} may not be accessed: {said} ({_REASONS.get(code, _ABSENT)})")
    if status == 412 or (status == 409 and code == "ConditionalRequestConflict"):
        return ConflictError(f"{where} was changed by somebody else: {said}")
    if status == 416:
        return CorruptModelError(f"{where} ends before it should: {said}")
    if status in (429, 503) or status >= 500 or code in _THROTTLING:
        return StoreUnavailableError(f"{where} cannot be had right now: {said}", retry_after=1)
    return RegistryError(f"{where}: {said}: {message}" if message else f"{where}: {said}")
