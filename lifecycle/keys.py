"""API keys, the writing side: create, list and revoke them in the table that `handler.api.keys` reads.

The table's items are `key_hash` (the partition key), `key_id` (the first 8 hex digits of the hash, by which logs and
people name the key), `label`, `created_at`, `requests_per_minute` and `tokens_per_day` where the key has such a limit,
and, once it is revoked, `revoked_at`. The key itself is stored nowhere. Beside them lie the counters of
`handler.api.key_limits`, which have no `key_id`.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from handler.api.keys import hash_key
from handler.errors import InvalidRequestError, KeysUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_ID_DIGITS = 8


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; times are ISO 8601 in UTC, and a limit that is None is none."""

    key_id: str
    label: str
    created_at: str
    revoked_at: str | None
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None


class KeyRegistry:
    """The table of API keys, for those who hand them out.

    Every method raises `KeysUnavailableError` where the table is missing, or does not answer or allow it.
    """

    def __init__(self, table: str, client: "DynamoDBClient | None" = None) -> None:
        self._table = table
        with self._translated():
            self._client: DynamoDBClient = client or boto3.client("dynamodb")

    def create(
        self, label: str, *, requests_per_minute: int | None = None, tokens_per_day: int | None = None
    ) -> tuple[str, ApiKey]:
        """Make a key of 256 random bits.

        Args:
            label: whose it is, or what for.
            requests_per_minute: how many requests it may make in a minute, from 1 on; None for any number.
            tokens_per_day: how many tokens, read and generated, it may use in a day; likewise.

        Returns:
            The key, which cannot be had again, and what is stored of it.

        Raises:
            InvalidRequestError: the label is empty, or a limit is less than 1.
        """
        limits = {"requests_per_minute": requests_per_minute, "tokens_per_day": tokens_per_day}
        for name, limit in limits.items():
            if limit is not None and limit < 1:
                raise InvalidRequestError(f"{name} must be at least 1; given: {limit}", param=name)
        if not label.strip():
            raise InvalidRequestError("label must say whose the key is, not be empty", param="label")
        taken = {key.key_id for key in self.list()}
        secret = _new_secret()
        while hash_key(secret)[:_ID_DIGITS] in taken:  # an id names one key; there are 4 billion of them
            secret = _new_secret()
        key_hash = hash_key(secret)
        key = ApiKey(key_hash[:_ID_DIGITS], label, _now(), None, **limits)
        with self._translated():
            self._client.put_item(
                TableName=self._table,
                Item={
                    "key_hash": {"S": key_hash},
                    "key_id": {"S": key.key_id},
                    "label": {"S": key.label},
                    "created_at": {"S": key.created_at},
                    **{name: {"N": str(limit)} for name, limit in limits.items() if limit is not None},
                },
                ConditionExpression="attribute_not_exists(key_hash)",
            )
        return secret, key

    def list(self) -> list[ApiKey]:
        """Every key, the oldest first."""
        return sorted((key for _, key in self._scan()), key=lambda key: (key.created_at, key.key_id))

    def revoke(self, key_id: str) -> ApiKey:
        """Make a key open nothing any more; of a key revoked before, the first time stays.

        Raises:
            InvalidRequestError: there is no key of this id.
        """
        key_hash = next((key_hash for key_hash, key in self._scan() if key.key_id == key_id), None)
        if key_hash is None:
            raise InvalidRequestError(
                f"key_id: there is no key {key_id!r} in the table {self._table!r}", param="key_id"
            )
        with self._translated():
            answer = self._client.update_item(
                TableName=self._table,
                Key={"key_hash": {"S": key_hash}},
                UpdateExpression="SET revoked_at = if_not_exists(revoked_at, :now)",
                ConditionExpression="attribute_exists(key_hash)",
                ExpressionAttributeValues={":now": {"S": _now()}},
                ReturnValues="ALL_NEW",
            )
        return _key(answer["Attributes"])

    def _scan(self) -> Iterator[tuple[str, ApiKey]]:
        """Each key's hash and what is known of it."""
        with self._translated():
            for page in self._client.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True):
                for item in page["Items"]:
                    if "key_id" in item:
                        yield item["key_hash"]["S"], _key(item)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise KeysUnavailableError(f"The keys table {self._table!r} cannot be used: {error}") from error


def _key(item: "Mapping[str, AttributeValueTypeDef]") -> ApiKey:
    texts = {name: value["S"] for name, value in item.items() if "S" in value}
    limits = {name: int(value["N"]) for name, value in item.items() if "N" in value}
    return ApiKey(
        texts["key_id"],
        texts.get("label", ""),
        texts.get("created_at", ""),
        texts.get("revoked_at"),
        limits.get("requests_per_minute"),
        limits.get("tokens_per_day"),
    )


def _new_secret() -> str:
    return "sk-" + secrets.token_urlsafe(32)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
