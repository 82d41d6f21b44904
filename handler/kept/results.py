"""Results of requests that nobody waits for: one object each, written once.

Delivery is at least once, so the same request may come twice, after a crash or at the same time. A result lies at
`results/SOURCE/ID.json`; whoever writes it first has answered, and everybody else finds that answer.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias

from handler.errors import InvalidRequestError, RequestIdReusedError, StorageUnavailableError

if TYPE_CHECKING:
    from handler.kept.storage import Storage

Response: TypeAlias = dict[str, Any]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What a request is known by.

    Attributes:
        source: where it came from; the results of each source have a folder of their own.
        id: the request's own id or, where it has none, `digest`.
        digest: the SHA-256 of what was asked, in hex.
    """

    source: str
    id: str
    digest: str

    @property
    def path(self) -> str:
        """The key of its result in the bucket."""
        return f"results/{self.source}/{self.id}.json"


def request_key(source: str, text: str, own_id: str | None = None) -> RequestKey:
    """The key of a request.

    Args:
        source: where it came from.
        text: what was asked, as it came.
        own_id: the id the sender gave it, if any.

    Raises:
        InvalidRequestError: the id has another form than ids have.
    """
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    if own_id is not None and not _ID.fullmatch(own_id):
        raise InvalidRequestError(
            f"`request_id` must match {_ID.pattern}; given: a string of {len(own_id)} characters.", param="request_id"
        )
    return RequestKey(source, own_id or digest, digest)


class Results:
    """Finds results, and makes and keeps those that are missing."""

    def __init__(self, storage: "Storage") -> None:
        self.storage = storage

    def once(self, key: RequestKey, answer: Callable[[], Response]) -> Response:
        """The response to a request: the one that is kept, or a new one that is kept from now on.

        Args:
            key: the request.
            answer: makes the response; called at most once, and not at all where there is one.

        Raises:
            RequestIdReusedError: the id belongs to a request that asked something else.
            StorageUnavailableError: the bucket does not answer.
        """
        kept = self._find(key)
        if kept is not None:
            return kept
        response = answer()
        body = {"request_id": key.id, "request_sha256": key.digest, "response": response}
        if self.storage.create(key.path, json.dumps(body).encode()):
            return response
        # Somebody else was answering the same request and has been faster.
        kept = self._find(key)
        if kept is None:
            raise StorageUnavailableError("A result was being written and removed at the same time.", retry_after=1)
        return kept

    def _find(self, key: RequestKey) -> Response | None:
        data = self.storage.read(key.path)
        if data is None:
            return None
        body = json.loads(data)
        if body["request_sha256"] != key.digest:
            raise RequestIdReusedError(
                f"`request_id`: {key.id!r} has been used for a request that asked something else.", param="request_id"
            )
        response: Response = body["response"]
        return response
