"""API keys: what lifecycle writes is what the service lets in, until it is revoked."""

import hashlib

import boto3
import pytest
from mypy_boto3_dynamodb import DynamoDBClient

from handler.api.keys import Key, KeysTable, hash_key
from handler.errors import InvalidRequestError, KeysUnavailableError
from lifecycle import keys
from lifecycle.keys import ApiKey, KeyRegistry

TABLE = "api-keys"


@pytest.fixture
def table(aws: str) -> DynamoDBClient:
    """The keys table, as the template makes it."""
    client: DynamoDBClient = boto3.client("dynamodb")
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "key_hash", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key_hash", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


def test_a_key_opens_until_it_is_revoked(table: DynamoDBClient) -> None:
    registry, service = KeyRegistry(TABLE), KeysTable(TABLE)
    secret, key = registry.create("alice")
    other, _ = registry.create("bob")
    assert service.find(secret) == Key(key.key_id, hash_key(secret), None, None)

    revoked = registry.revoke(key.key_id)
    assert service.find(secret) is None
    assert service.find(other) is not None
    assert revoked.revoked_at is not None
    assert registry.revoke(key.key_id) == revoked  # a second time changes nothing


def test_the_key_itself_is_stored_nowhere(table: DynamoDBClient) -> None:
    secret, key = KeyRegistry(TABLE).create("alice")
    assert secret.startswith("sk-")
    assert len(secret) == 3 + 43  # 256 bits in base64
    key_hash = hashlib.sha256(secret.encode()).hexdigest()
    assert table.scan(TableName=TABLE)["Items"] == [
        {
            "key_hash": {"S": key_hash},
            "key_id": {"S": key_hash[:8]},
            "label": {"S": "alice"},
            "created_at": {"S": key.created_at},
        }
    ]


def test_keys_are_listed_oldest_first(table: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = KeyRegistry(TABLE)
    times = iter(f"2026-11-24T12:00:0{second}+00:00" for second in range(9))
    monkeypatch.setattr(keys, "_now", lambda: next(times))
    made = [registry.create(label)[1] for label in ("zoe", "alice", "bob")]
    registry.revoke(made[1].key_id)
    assert [key.label for key in made] == ["zoe", "alice", "bob"]
    revoked = ApiKey(made[1].key_id, "alice", made[1].created_at, "2026-11-24T12:00:03+00:00")
    assert registry.list() == [made[0], revoked, made[2]]


def test_an_id_names_one_key(table: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = KeyRegistry(TABLE)
    first, key = registry.create("alice")
    drawn = iter([first, "sk-another"])
    monkeypatch.setattr(keys, "_new_secret", lambda: next(drawn))
    second, other = registry.create("bob")
    assert second == "sk-another"
    assert other.key_id != key.key_id


def test_a_key_that_is_not_there_cannot_be_revoked(table: DynamoDBClient) -> None:
    with pytest.raises(InvalidRequestError, match="key_id: there is no key '01234567' in the table 'api-keys'"):
        KeyRegistry(TABLE).revoke("01234567")


@pytest.mark.parametrize("label", ["", "  "])
def test_a_key_has_a_label(table: DynamoDBClient, label: str) -> None:
    with pytest.raises(InvalidRequestError, match="label must say whose the key is") as refused:
        KeyRegistry(TABLE).create(label)
    assert refused.value.param == "label"


def test_a_table_that_is_missing_is_told(aws: str) -> None:
    with pytest.raises(KeysUnavailableError, match=r"The keys table 'nowhere' cannot be used: .*ResourceNotFound"):
        KeyRegistry("nowhere").list()


def test_a_key_has_its_limits_until_the_end(table: DynamoDBClient) -> None:
    registry = KeyRegistry(TABLE)
    secret, key = registry.create("alice", requests_per_minute=60, tokens_per_day=100_000)
    assert (key.requests_per_minute, key.tokens_per_day) == (60, 100_000)
    assert registry.list() == [key]
    assert KeysTable(TABLE).find(secret) == Key(key.key_id, hash_key(secret), 60, 100_000)
    assert registry.revoke(key.key_id).tokens_per_day == 100_000


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_day"])
def test_a_limit_lets_something_pass(table: DynamoDBClient, limit: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"{limit} must be at least 1; given: 0") as refused:
        KeyRegistry(TABLE).create("alice", **{limit: 0})
    assert refused.value.param == limit
