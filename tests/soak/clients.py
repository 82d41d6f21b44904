"""Clients that come and go: each asks for one completion after the other as a stream, and some stop reading."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

PATIENCE: Final = 120.0

# The share of requests whose client goes away, and of those that have a seed and so take the other way.
LEAVING, SEEDED = 0.2, 0.1


@dataclass
class Experience:
    """What all clients have seen.

    Attributes:
        begun: requests that were sent.
        finished: those that were answered to the end.
        left: those whose client went away.
        waits: seconds to the first token, of each that had one.
        faults: what was not as it should be, in words.
    """

    begun: int = 0
    finished: int = 0
    left: int = 0
    waits: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Client:
    """One of them; the same number always asks the same."""

    def __init__(self, http: httpx.AsyncClient, number: int, experience: Experience) -> None:
        self._http = http
        self._random = random.Random(number)
        self._experience = experience
        self.has_token = asyncio.Event()

    async def ask_while(self, wanted: Callable[[], bool]) -> None:
        """Ask for lengths of all kinds until it is time to stop; a fifth of the answers are not read to their end."""
        while wanted():
            leaving = self._random.random() < LEAVING
            await self.ask(self._body(), leave_after=self._random.randrange(20) if leaving else None)

    async def ask(self, body: dict[str, Any], leave_after: int | None = None) -> None:
        """Ask once.

        Args:
            body: the request.
            leave_after: go away after so many events; None stays to the end.
        """
        seen = self._experience
        seen.begun += 1
        started, events, reason, done = time.monotonic(), 0, None, False
        try:
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                if response.status_code != 200:
                    seen.faults.append(f"{response.status_code}: {(await response.aread()).decode()}")
                    return
                async for line in response.aiter_lines():
                    if events == leave_after:
                        seen.left += 1
                        return
                    done = done or line == "data: [DONE]"
                    if not line.startswith("data: {"):
                        continue
                    event = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        seen.faults.append(line)
                        return
                    if not events:
                        seen.waits.append(time.monotonic() - started)
                        self.has_token.set()
                    events += 1
                    reason = event["choices"][0]["finish_reason"] or reason
        except httpx.HTTPError as error:
            seen.faults.append(f"{type(error).__name__}: {error}")
            return
        if done and reason in {"stop", "length"}:
            seen.finished += 1
        else:
            seen.faults.append(f"cut off after {events} events")

    def _body(self) -> dict[str, Any]:
        choose = self._random
        body: dict[str, Any] = {
            "prompt": [choose.randrange(1, 6000) for _ in range(choose.choice((1, 8, 30, 100)))],
            "max_tokens": choose.choice((1, 5, 20, 60, 120)),
            "temperature": choose.choice((0, 0.7, 1)),
            "top_p": choose.choice((0.9, 1)),
            "stream": True,
        }
        return body | {"seed": 1} if choose.random() < SEEDED else body
