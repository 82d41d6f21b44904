"""What a key may ask for: requests in a minute and tokens in a day, counted in the keys table.

Each key has an item a minute and an item a day beside its own, which DynamoDB forgets some time afterwards (its TTL).
A count is raised by one conditional update, under the condition that the limit holds afterwards too, so that it is
exact however many processes count at once. Where the table does not answer, nobody passes.

The tokens of a request are not known before it is answered. Its worst case is reserved, and what it did not use is
given back: a key never uses more than its limit, and one that is near it may be refused what would have fitted in the
end. A process that dies gives nothing back.

A key without limits costs no update.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from handler.allowance import UNLIMITED, Allowance
from handler.api.keys import Key
from handler.aws import dynamodb
from handler.errors import KeysUnavailableError, RequestsPerMinuteExceededError, TokensPerDayExceededError
from handler.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MINUTE, DAY = 60, 86_400


class KeyLimits:
    """Holds keys to their limits, in the table they are in."""

    def __init__(
        self, table: str, client: "DynamoDBClient | None" = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._client = client
        self._clock = clock

    def count_request(self, key: Key) -> None:
        """Count one request.

        Raises:
            RequestsPerMinuteExceededError: it is one too many.
            KeysUnavailableError: it cannot be counted.
        """
        if key.requests_per_minute is None:
            return
        window = self.window(key, MINUTE)
        if not self.add(window, 1, key.requests_per_minute):
            raise RequestsPerMinuteExceededError(
                f"This key may make {key.requests_per_minute} requests a minute, and has made them.",
                retry_after=window.seconds_left,
            )

    def allowance(self, key: Key) -> Allowance:
        """The tokens it may use."""
        return UNLIMITED if key.tokens_per_day is None else TokensOfTheDay(self, key, key.tokens_per_day)

    def window(self, key: Key, seconds: int) -> "Window":
        """The minute or day it is now."""
        now = self._clock()
        start = int(now // seconds) * seconds
        return Window(f"{key.hash}#{seconds}#{start}", start + seconds, math.ceil(start + seconds - now))

    def add(self, window: "Window", count: int, limit: int) -> bool:
        """Raise a window's count, and say whether the limit allows it; if not, nothing is raised.

        Raises:
            KeysUnavailableError: the table did not answer.
        """
        if count > limit:
            return False
        try:
            client = self._client or dynamodb()
            client.update_item(
                TableName=self._table,
                Key={"key_hash": {"S": window.name}},
                UpdateExpression="SET expires_at = :end ADD used :count",
                ConditionExpression="attribute_not_exists(used) OR used <= :most",
                ExpressionAttributeValues={
                    ":count": {"N": str(count)},
                    ":most": {"N": str(limit - count)},
                    ":end": {"N": str(window.end)},
                },
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise self._unavailable() from error
        except BotoCoreError as error:
            raise self._unavailable() from error
        return True

    def take_off(self, window: "Window", count: int) -> None:
        """Lower a window's count.

        When an answer is lost, boto3 asks again. To count twice is to count too much, which is safe. To take off twice
        is not; a transaction is carried out once, however often it is asked for.

        Raises:
            KeysUnavailableError: the table did not answer.
        """
        try:
            client = self._client or dynamodb()
            client.transact_write_items(
                TransactItems=[
                    {
                        "Update": {
                            "TableName": self._table,
                            "Key": {"key_hash": {"S": window.name}},
                            "UpdateExpression": "ADD used :count",
                            "ExpressionAttributeValues": {":count": {"N": str(-count)}},
                        }
                    }
                ]
            )
        except (BotoCoreError, ClientError) as error:
            raise self._unavailable() from error

    def _unavailable(self) -> KeysUnavailableError:
        return KeysUnavailableError(
            f"The keys table {self._table!r} did not answer, so this key's requests and tokens cannot be counted.",
            retry_after=1,
        )


@dataclass(frozen=True, slots=True)
class Window:
    """A minute or a day of a key: the name of its item, when it ends (seconds since 1970), and in how many seconds."""

    name: str
    end: int
    seconds_left: int


class TokensOfTheDay:
    """The allowance of one key, for one request: what is given back returns to the day it was reserved in."""

    def __init__(self, limits: KeyLimits, key: Key, limit: int) -> None:
        self._limits = limits
        self._limit = limit
        self._day = limits.window(key, DAY)

    def reserve(self, tokens: int) -> None:
        """Set aside the most that a request may take.

        Raises:
            TokensPerDayExceededError: fewer are left.
            KeysUnavailableError: nobody knows how many are left.
        """
        if not self._limits.add(self._day, tokens, self._limit):
            raise TokensPerDayExceededError(
                f"This key may use {self._limit} tokens a day, and fewer are left than this request may take; "
                f"given: {tokens}.",
                retry_after=self._day.seconds_left,
            )

    def give_back(self, tokens: int) -> None:
        """Return what was reserved and not used; where that fails, the tokens stay used."""
        if tokens == 0:
            return
        try:
            self._limits.take_off(self._day, tokens)
        except KeysUnavailableError:
            logger.warning("tokens not given back", tokens=tokens)
