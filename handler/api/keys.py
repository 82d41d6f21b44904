"""API keys as the service sees them: hashed, looked up in one DynamoDB table, and refused whenever in doubt."""

import hashlib
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from handler.aws import dynamodb
from handler.errors import KeysUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


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

    def find(self, key: str) -> str | None:
        """Look a key up.

        Returns:
            The key's id, for logs, or None when there is no such key or it was revoked.

        Raises:
            KeysUnavailableError: the table did not answer; nobody is let in then.
        """
        try:
            client = self._client or dynamodb()
            # Comparing happens on the hash, inside DynamoDB: response times tell nothing about a key.
            answer = client.get_item(TableName=self._table, Key={"key_hash": {"S": hash_key(key)}}, ConsistentRead=True)
        except (BotoCoreError, ClientError) as error:
            raise KeysUnavailableError(
                f"The keys table {self._table!r} did not answer, so no key can be checked.", retry_after=1
            ) from error
        item = answer.get("Item")
        if item is None or "revoked_at" in item:
            return None
        return item["key_id"]["S"]
