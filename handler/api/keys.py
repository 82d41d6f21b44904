"""API keys as the service sees them: hashed, looked up in one DynamoDB table, and refused whenever in doubt."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from handler.aws import dynamodb
from handler.errors import KeysUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


@dataclass(frozen=True, slots=True)
class Key:
    """What the table says of a key that opens; None for a limit means none.

    Attributes:
        id: its name, for logs.
        hash: what it is stored under.
        requests_per_minute: how many requests it may make in a minute of the clock.
        tokens_per_day: how many tokens, read and generated, it may use in a day of the calendar, in UTC.
    """

    id: str
    hash: str
    requests_per_minute: int | None
    tokens_per_day: int | None


def hash_key(key: str) -> str:
    """The hex SHA-256 under which a key is stored.

    Keys carry 256 random bits, so a fast hash without salt gives nothing away (unlike with passwords).
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeysTable:
    """The table's reading side: one item per key, its partition key the key's hash."""

    def __init__(self, table: str, client: "DynamoDBClient | None" = None) -> None:
        self._table = table
        self._client = client

    def find(self, key: str) -> Key | None:
        """Look a key up.

        Returns:
            What is known of it, or None when there is no such key or it was revoked.

        Raises:
            KeysUnavailableError: the table did not answer; nobody is let in then.
        """
        key_hash = hash_key(key)
        try:
            client = self._client or dynamodb()
            # Comparing happens on the hash, inside DynamoDB: response times tell nothing about a key.
            answer = client.get_item(TableName=self._table, Key={"key_hash": {"S": key_hash}}, ConsistentRead=True)
        except (BotoCoreError, ClientError) as error:
            raise KeysUnavailableError(
                f"The keys table {self._table!r} did not answer, so no key can be checked.", retry_after=1
            ) from error
        item = answer.get("Item", {})
        if "key_id" not in item or "revoked_at" in item:
            return None
        return Key(
            id=item["key_id"]["S"],
            hash=key_hash,
            requests_per_minute=_number(item.get("requests_per_minute")),
            tokens_per_day=_number(item.get("tokens_per_day")),
        )


def _number(value: "AttributeValueTypeDef | None") -> int | None:
    return None if value is None else int(value["N"])
