"""Limits of a key: exact under concurrency, counted for every way to use tokens, and closed when in doubt."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import boto3
import pytest
from moto import mock_aws
from mypy_boto3_dynamodb import DynamoDBClient
from starlette.testclient import TestClient

from handler.allowance import UNLIMITED
from handler.api.authorization import AuthorizationMiddleware, api_key_authorizer
from handler.api.key_limits import DAY, MINUTE, KeyLimits
from handler.api.keys import Key, KeysTable
from handler.errors import KeysUnavailableError, RequestsPerMinuteExceededError, TokensPerDayExceededError
from lifecycle.keys import KeyRegistry
from tests.exchanges import events_of
from tests.services import running_app

TABLE = "keys"
NOON = 1_795_435_200 + 10.5  # 12:00:10.5 of a day, in UTC
LIMITED = Key("ada", "f" * 64, requests_per_minute=25, tokens_per_day=1000)


class OneAtATime:
    """DynamoDB updates an item for one caller after the other; moto, within one process, does not."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self._lock = threading.Lock()

    def update_item(self, **fields: Any) -> Any:
        with self._lock:
            return self._client.update_item(**fields)


@pytest.fixture
def table() -> Iterator[DynamoDBClient]:
    with mock_aws():
        client: DynamoDBClient = boto3.client("dynamodb")
        client.create_table(
            TableName=TABLE,
            AttributeDefinitions=[{"AttributeName": "key_hash", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "key_hash", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def used(table: DynamoDBClient, seconds: int) -> list[int]:
    """The counts of all windows of a length, in their order."""
    items = table.scan(TableName=TABLE)["Items"]
    counts = {item["key_hash"]["S"]: int(item["used"]["N"]) for item in items if "used" in item}
    return [counts[name] for name in sorted(counts) if f"#{seconds}#" in name]


def test_a_minute_holds_so_many_requests_and_the_next_one_as_many(table: DynamoDBClient) -> None:
    now = [NOON]
    limits = KeyLimits(TABLE, table, lambda: now[0])
    for _ in range(25):
        limits.count_request(LIMITED)
    with pytest.raises(RequestsPerMinuteExceededError) as refused:
        limits.count_request(LIMITED)
    assert refused.value.message == "This key may make 25 requests a minute, and has made them."
    assert refused.value.retry_after == 50

    now[0] += 49.5
    limits.count_request(LIMITED)
    assert used(table, MINUTE) == [25, 1]
    expiries = {item["expires_at"]["N"] for item in table.scan(TableName=TABLE)["Items"]}
    assert expiries == {"1795435260", "1795435320"}


def test_counts_are_exact_under_concurrency(table: DynamoDBClient) -> None:
    limits = KeyLimits(TABLE, OneAtATime(table), lambda: NOON)  # type: ignore[arg-type]

    def passes(attempt: Callable[[], None]) -> bool:
        try:
            attempt()
        except (RequestsPerMinuteExceededError, TokensPerDayExceededError):
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        requests = list(pool.map(passes, [partial(limits.count_request, LIMITED)] * 40))
        reservations = list(pool.map(passes, [partial(limits.allowance(LIMITED).reserve, 99)] * 40))
    assert (sum(requests), sum(reservations)) == (25, 10)
    assert (used(table, MINUTE), used(table, DAY)) == ([25], [990])


def test_what_is_given_back_may_be_used_again(table: DynamoDBClient) -> None:
    limits = KeyLimits(TABLE, table, lambda: NOON)
    allowance = limits.allowance(LIMITED)
    allowance.reserve(1000)
    with pytest.raises(TokensPerDayExceededError) as refused:
        allowance.reserve(1)
    assert refused.value.retry_after == 12 * 3600 - 10
    allowance.give_back(400)
    limits.allowance(LIMITED).reserve(400)
    assert used(table, DAY) == [1000]


def test_more_than_the_limit_is_refused_of_the_first_too(table: DynamoDBClient) -> None:
    with pytest.raises(
        TokensPerDayExceededError, match=r"may use 1000 tokens a day, and fewer are left .*; given: 1001"
    ):
        KeyLimits(TABLE, table, lambda: NOON).allowance(LIMITED).reserve(1001)


def test_nobody_passes_who_cannot_be_counted(table: DynamoDBClient, log: Any) -> None:
    limits = KeyLimits("absent", table)
    for attempt in (partial(limits.count_request, LIMITED), partial(limits.allowance(LIMITED).reserve, 1)):
        with pytest.raises(KeysUnavailableError, match="The keys table 'absent' did not answer"):
            attempt()
    limits.allowance(LIMITED).give_back(5)  # too late to refuse anything
    assert '"message":"tokens not given back"' in log.getvalue()


def test_a_key_without_limits_is_not_counted(table: DynamoDBClient) -> None:
    limits = KeyLimits(TABLE, table)
    limits.count_request(Key("ada", "f" * 64, None, None))
    assert limits.allowance(Key("ada", "f" * 64, None, None)) is UNLIMITED
    assert table.scan(TableName=TABLE)["Items"] == []


def test_an_item_that_is_no_key_opens_nothing(table: DynamoDBClient) -> None:
    secret, _ = KeyRegistry(TABLE, table).create("ada", requests_per_minute=5, tokens_per_day=7)
    found = KeysTable(TABLE, table).find(secret)
    assert found is not None
    assert (found.requests_per_minute, found.tokens_per_day) == (5, 7)
    table.update_item(TableName=TABLE, Key={"key_hash": {"S": found.hash}}, UpdateExpression="REMOVE key_id")
    assert KeysTable(TABLE, table).find(secret) is None


@pytest.fixture
def client(table: DynamoDBClient) -> Iterator[TestClient]:
    """Of the application, for a key with 9 requests a minute and 1,000 tokens a day, at noon."""
    secret, _ = KeyRegistry(TABLE, table).create("ada", requests_per_minute=9, tokens_per_day=1000)
    authorizer = api_key_authorizer(KeysTable(TABLE, table), KeyLimits(TABLE, table, lambda: NOON))
    with running_app() as app:
        yield TestClient(AuthorizationMiddleware(app, authorizer), headers={"Authorization": f"Bearer {secret}"})


MESSAGES = [{"role": "user", "content": "sea?"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": ["the sea", "he said"], "n": 2, "max_tokens": 9, "stop": ["e"], "seed": 1}),
        ("/v1/completions", {"prompt": "the sea", "best_of": 3, "max_tokens": 9, "logit_bias": {"299": 4}}),
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 9, "stop": ["e"]}),
        ("/v1/score", {"input": [[1, 2, 3], [5, 6]]}),
    ],
)
def test_what_the_usage_says_is_what_is_counted(
    client: TestClient, table: DynamoDBClient, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(path, json=body).json()
    documents = len(answer.get("data", []))  # each is read behind an end-of-text token, which the usage leaves out
    assert used(table, DAY) == [answer["usage"]["total_tokens"] + documents]


def test_streams_and_texts_are_counted_alike(client: TestClient, table: DynamoDBClient) -> None:
    body = {"prompt": "the sea", "max_tokens": 9, "stream": True, "stream_options": {"include_usage": True}}
    *_, usage, _ = events_of(client.post("/v1/completions", json=body).text)
    assert used(table, DAY) == [usage["usage"]["total_tokens"]]
    client.post("/generate_text", json={"prompt": "the sea", "max_length": 20})
    assert used(table, DAY) == [usage["usage"]["total_tokens"] + 20]
    client.post("/v1/explain", json={"prompt": [1, 2], "continuation": [3]})
    assert used(table, DAY) == [usage["usage"]["total_tokens"] + 20 + 3 + 2 + 2]


def test_over_the_limits_a_client_is_told_when_to_come_back(client: TestClient, table: DynamoDBClient) -> None:
    answers = [client.post("/v1/score", json={"input": [[1] * 60] * 4}) for _ in range(10)]
    _, _, _, _, fifth, _, _, _, _, last = answers
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 6
    assert (fifth.json()["error"]["code"], fifth.headers["retry-after"]) == ("tokens_per_day_exceeded", "43190")
    assert (last.json()["error"]["code"], last.headers["retry-after"]) == ("requests_per_minute_exceeded", "50")
    assert {answer.json()["error"]["type"] for answer in (fifth, last)} == {"rate_limit_error"}
    assert (used(table, MINUTE), used(table, DAY)) == ([9], [4 * 4 * 61])


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/v1/batches", {}, {"input_file_id": "file-1", "endpoint": "/v1/completions", "completion_window": "24h"}),
        ("/v1/completions", {"Prefer": "respond-async"}, {"prompt": "a"}),
    ],
)
def test_what_nobody_would_count_is_refused(client: TestClient, path: str, headers: Any, body: Any) -> None:
    answer = client.post(path, headers=headers, json=body)
    error = {
        "message": "A key with a limit of tokens a day cannot start batches or jobs.",
        "type": "permission_error",
        "param": None,
        "code": "not_for_limited_keys",
    }
    assert (answer.status_code, answer.json()) == (403, {"error": error})
