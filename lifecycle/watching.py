"""See a promotion arrive: ask the address which version answers, and the alarms whether it does harm."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import urlopen

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from handler.errors import (
    AccessDeniedError,
    InvalidRequestError,
    NotInRegistryError,
    RegistryError,
    StoreUnavailableError,
)
from lifecycle.aliases import Move, read_alias
from lifecycle.promoting import rollback
from lifecycle.store import WritableStore

POLL_SECONDS: Final = 2.0

# Each question is answered by one environment of several; so many answers in a row count as all of them.
IN_A_ROW: Final = 3


def no_version_known(_version: str | None) -> None:
    """For whoever does not want to know."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched after an alias was moved.

    Attributes:
        address: where the service answers.
        alarms: names of CloudWatch alarms; none watches none.
        seconds: how long; with alarms all of it, without until the version has arrived.
        clock: seconds that pass.
        sleep: how to wait.
    """

    address: str
    alarms: Sequence[str] = ()
    seconds: float = 600.0
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def check(self) -> None:
        """See, before anything is moved, that what is to be watched is there and quiet.

        Raises:
            InvalidRequestError: the address is none, or an alarm fires already.
            NotInRegistryError: there is no such alarm.
            AccessDeniedError: the alarms may not be looked at.
        """
        if urlsplit(self.address).scheme not in ("http", "https"):
            raise InvalidRequestError(f"wait must be an http or https address, not {self.address!r}", param="wait")
        if firing := self.firing():
            raise InvalidRequestError(f"alarm: {', '.join(firing)} fires already; nothing was moved", param="alarm")

    def until_arrived(
        self,
        store: WritableStore,
        name: str,
        alias: str,
        move: Move,
        tell: Callable[[str | None], None] = no_version_known,
    ) -> None:
        """Wait until the version has arrived; take the alias back if an alarm fires.

        Args:
            store: the bucket.
            name: the model.
            alias: the alias that was moved.
            move: by which move.
            tell: told which version answers, each time it is another one; None if nobody does.

        Raises:
            RegistryError: an alarm fired, and the alias was taken back; or it was not, and the message says why.
            StoreUnavailableError: the version did not arrive in time; the alias stays where it is.
        """
        end = self.clock() + self.seconds
        seen = in_a_row = 0
        last: str | None = ""
        while self.clock() < end:
            if firing := self.firing():
                self._take_back(store, name, alias, move, firing)
            version = self.answering()
            if version != last:
                tell(version)
            last = version
            in_a_row = in_a_row + 1 if version == move.version else 0
            seen = max(seen, in_a_row)
            if seen >= IN_A_ROW and not self.alarms:
                return
            self.sleep(POLL_SECONDS)
        if seen < IN_A_ROW:
            raise StoreUnavailableError(
                f"{move.version} did not arrive at {self.address} within {self.seconds:g} s, where"
                f" {last or 'nothing'} answers; {alias} of {name} stays where it is"
            )

    def answering(self) -> str | None:
        """The version that answers now, or None if none does."""
        try:
            with urlopen(f"{self.address.rstrip('/')}/readyz", timeout=10) as answer:  # noqa: S310 - see `check`
                version: str | None = answer.headers.get("x-model-version")
        except (OSError, HTTPException):
            return None
        return version

    def firing(self) -> list[str]:
        """The alarms that fire now."""
        if not self.alarms:
            return []
        try:
            cloudwatch: Any = boto3.client("cloudwatch")
            answer = cloudwatch.describe_alarms(
                AlarmNames=list(self.alarms), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
        except (ClientError, BotoCoreError) as error:
            raise AccessDeniedError(f"The alarms cannot be looked at: {error}") from error
        found = {
            each["AlarmName"]: each["StateValue"]
            for kind in ("MetricAlarms", "CompositeAlarms")
            for each in answer.get(kind, ())
        }
        if missing := [name for name in self.alarms if name not in found]:
            raise NotInRegistryError(f"alarm: there is none called {', '.join(missing)}")
        return [name for name, state in found.items() if state == "ALARM"]

    @staticmethod
    def _take_back(store: WritableStore, name: str, alias: str, move: Move, firing: Sequence[str]) -> None:
        alarms = f"{', '.join(firing)} fired while {move.version} arrived"
        now = read_alias(store, name, alias)
        if now is None or now.move != move:
            raise RegistryError(f"{alarms}; {alias} of {name} was moved by somebody else meanwhile, and stays there")
        try:
            back = rollback(store, name, alias, why=alarms)
        except RegistryError as error:
            raise RegistryError(f"{alarms}, and {alias} of {name} could not be taken back: {error.message}") from error
        except InvalidRequestError as error:
            raise RegistryError(f"{alarms}, and there is nothing to take back to: {error.message}") from error
        raise RegistryError(f"{alarms}; {alias} of {name} is back at {back.version}")
