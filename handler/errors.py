"""The one vocabulary of errors: what a client, a caller of the function or an operator can be told.

Every error that crosses a boundary is a `ServiceError`. Its message names the field, the bound and what was given;
its fields are those of the OpenAI error object, so one shape serves HTTP, direct invocations and events. Errors of
the model registry are service errors too: to a client they mean that the model cannot be served right now.
"""

from typing import ClassVar


class ServiceError(Exception):
    """An error with everything needed to answer it.

    Attributes:
        status: the HTTP status it is answered with.
        type: the family of the error, as the OpenAI clients know it.
        code: a stable identifier a program can branch on, or None.
        param: the request field at fault, or None.
        retry_after: seconds after which trying again makes sense, or None.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def is_final(self) -> bool:
        """Whether trying again cannot help, because the request itself is at fault."""
        return 400 <= self.status < 500 and self.status != 429

    def body(self) -> dict[str, dict[str, str | None]]:
        """The error as the JSON object every route and every event answers with."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class InvalidRequestError(ServiceError):
    """A field of the request is missing, unknown, of the wrong type or out of its bounds."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class InvalidSettingsError(ServiceError):
    """The environment that the process is set up by lacks a variable, or one is out of its bounds."""

    code = "invalid_settings"


class UnsupportedParameterError(InvalidRequestError):
    """A field asks for something that OpenAI's API has and this service has not."""

    code = "unsupported_parameter"


class ContextLengthExceededError(InvalidRequestError):
    """Prompt and requested tokens together do not fit the model's context."""

    code = "context_length_exceeded"


class UnknownEventError(InvalidRequestError):
    """The function was invoked with an event that no adapter recognises."""

    code = "unknown_event"


class AuthenticationError(ServiceError):
    """The request carries no valid credentials."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class UnknownModelError(ServiceError):
    """The request names a model that is not served here."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class PayloadTooLargeError(ServiceError):
    """The request body is larger than the service reads."""

    status = 413
    type = "invalid_request_error"
    code = "payload_too_large"


class AnswerTooLargeError(ServiceError):
    """The answer is larger than what brought the request takes back."""

    status = 400
    type = "invalid_request_error"
    code = "answer_too_large"


class OverCapacityError(ServiceError):
    """So many requests are worked on and waiting already that one more would only wait."""

    status = 429
    type = "rate_limit_error"
    code = "over_capacity"


class RequestsPerMinuteExceededError(ServiceError):
    """The key has made all the requests it may make in this minute."""

    status = 429
    type = "rate_limit_error"
    code = "requests_per_minute_exceeded"


class TokensPerDayExceededError(ServiceError):
    """The key has fewer tokens left for today than the request may take."""

    status = 429
    type = "rate_limit_error"
    code = "tokens_per_day_exceeded"


class NotForLimitedKeysError(ServiceError):
    """The key may use so many tokens a day, and nobody would count those of what it asks for."""

    status = 403
    type = "permission_error"
    code = "not_for_limited_keys"


class ModelLoadingError(ServiceError):
    """The model is still being loaded and the request's deadline does not allow waiting for it."""

    status = 503
    type = "server_error"
    code = "model_loading"


class DrainingError(ServiceError):
    """The process is about to end, and whoever balances the load is to send requests elsewhere."""

    status = 503
    type = "server_error"
    code = "draining"


class StreamInterruptedError(ServiceError):
    """What was making a stream went away while it did; this is the stream's last event."""

    status = 503
    type = "server_error"
    code = "stream_interrupted"


class DeadlineExceededError(ServiceError):
    """The deadline passed before the first token."""

    status = 504
    type = "server_error"
    code = "deadline_exceeded"


class CancelledRequestError(ServiceError):
    """The client went away, so what it asked for was given up; nobody reads this."""

    status = 499  # what nginx logs then; the registered statuses have none
    type = "invalid_request_error"
    code = "request_cancelled"


class KeysUnavailableError(ServiceError):
    """The table of API keys cannot be read, so nobody is let in."""

    status = 503
    type = "server_error"
    code = "keys_unavailable"


class IssuerUnavailableError(ServiceError):
    """The issuer of tokens does not say what its keys are, so nobody is let in."""

    status = 503
    type = "server_error"
    code = "issuer_unavailable"


class NoSuchObjectError(ServiceError):
    """There is no file, batch or upload with this id."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class RequestIdReusedError(ServiceError):
    """A request has the id of an earlier one that asked something else."""

    status = 409
    type = "invalid_request_error"
    code = "request_id_reused"


class StorageUnavailableError(ServiceError):
    """The results bucket cannot be read or written right now."""

    status = 503
    type = "server_error"
    code = "storage_unavailable"


class SendingRefusedError(ServiceError):
    """A queue or an event bus that a message names does not exist, or the function may not send there."""

    status = 400
    type = "invalid_request_error"
    code = "sending_refused"


class SendingFailedError(ServiceError):
    """A queue or an event bus does not answer."""

    status = 503
    type = "server_error"
    code = "sending_failed"


class BatchFailedError(ServiceError):
    """Every message of a batch failed, so the whole batch is delivered again."""

    status = 503
    code = "batch_failed"


class AbandonedError(ServiceError):
    """A message was begun as often as any is, and never finished: each time the process ended that worked on it."""

    code = "abandoned"


class EngineError(ServiceError):
    """The engine computed something no answer can be made from."""

    code = "engine_error"


class EngineUnavailableError(ServiceError):
    """The engine has failed so often that this process will not recover by itself."""

    status = 503
    code = "engine_unavailable"


class RegistryError(ServiceError):
    """A model cannot be had from the registry."""

    status = 503
    type = "server_error"
    code = "model_unavailable"


class NotInRegistryError(RegistryError):
    """A model, version, alias or file does not exist in the models bucket."""


class AccessDeniedError(RegistryError):
    """The store refuses access: told apart from absence, because the mend is another one."""


class StoreUnavailableError(RegistryError):
    """The store did not answer, or kept throttling, however often it was asked."""


class CorruptModelError(RegistryError):
    """What the store holds is not what the manifest promises."""


class UntrustedModelError(RegistryError):
    """A version is not signed by the key whose signature is asked for."""


class ConflictError(RegistryError):
    """Somebody else changed the alias or version first; nothing was written."""


class UnsupportedModelError(RegistryError):
    """The model's files are sound, but something about it is not implemented; the message names it."""
