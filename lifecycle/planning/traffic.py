"""The requests that come, and a description from which they are drawn."""

import math
import random
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from handler.api.validation import StrictBody
from handler.errors import InvalidRequestError

HOUR: Final = 3600.0
HOURS: Final = 24  # of a day

# So many requests tell of the rarer ones, and no more are simulated: of each hour then comes a part.
_ENOUGH: Final = 20_000
_MOST_DAYS: Final = 30
MOST_REQUESTS: Final = 500_000
MOST_A_DAY: Final = MOST_REQUESTS * HOURS  # of which an hour is played in all: in less, scaling would not be seen

MOST_TOKENS: Final = 1_000_000  # of a prompt or an answer: contexts are no longer

_Z95: Final = 1.6448536269514722  # the standard normal's 95th percentile


class Request(NamedTuple):
    """A request: when it comes, in seconds from the beginning, and its tokens."""

    at: float
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests, the first one first.

    Attributes:
        requests: all of them.
        seconds: in which they came.
        rates: requests a second, hour by hour, or in as many parts of one length.
    """

    requests: tuple[Request, ...]
    seconds: float
    rates: tuple[float, ...]

    @property
    def mean_prompt(self) -> float:
        """Tokens of a prompt, on average."""
        return sum(request.prompt for request in self.requests) / len(self.requests)

    @property
    def mean_output(self) -> float:
        """Tokens of an answer, on average."""
        return sum(request.output for request in self.requests) / len(self.requests)

    @property
    def per_day(self) -> float:
        """Requests a day."""
        return sum(self.rates) / len(self.rates) * HOUR * HOURS


class Length(StrictBody):
    """Tokens, spread log-normally between two percentiles."""

    p50: Annotated[float, Field(ge=1, le=MOST_TOKENS)]
    p95: Annotated[float, Field(ge=1, le=MOST_TOKENS)]

    @field_validator("p95")
    @classmethod
    def _not_below(cls, p95: float, info: ValidationInfo) -> float:
        if p95 < (p50 := info.data.get("p50", p95)):
            raise ValueError(f"must not be below p50, which is {p50:g}")
        return p95

    def draw(self, dice: random.Random) -> int:
        """One length, from 1 to `MOST_TOKENS`."""
        sigma = math.log(self.p95 / self.p50) / _Z95
        return min(MOST_TOKENS, max(1, round(dice.lognormvariate(math.log(self.p50), sigma))))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_length(value: object) -> object:
    """A length that is one number."""
    return {"p50": value, "p95": value} if _is_number(value) else value


def _as_rates(value: object) -> object:
    """A rate that is that of every hour."""
    return [value] * HOURS if _is_number(value) else value


Tokens = Annotated[Length, BeforeValidator(_as_length)]
Rates = Annotated[
    list[Annotated[float, Field(ge=0)]], Field(min_length=HOURS, max_length=HOURS), BeforeValidator(_as_rates)
]


class Description(StrictBody):
    """Traffic in a few numbers: requests a second, always or by the hour of the day, and the tokens of each.

    Within an hour requests come at random (a Poisson process). A length is a number or `{"p50", "p95"}`.
    """

    requests_per_second: Rates
    prompt_tokens: Tokens
    output_tokens: Tokens

    @field_validator("requests_per_second")
    @classmethod
    def _some(cls, rates: list[float]) -> list[float]:
        if not any(rates):
            raise ValueError("must be above 0 in some hour")
        return rates

    def draw(self, seed: int = 0, most: int = MOST_REQUESTS) -> Traffic:
        """Days of requests: several of them where few come, and where many do, a part of each hour."""
        rates = tuple(self.requests_per_second)
        a_day = sum(rates) * HOUR
        if a_day > MOST_A_DAY:
            raise InvalidRequestError(
                f"requests_per_second: at most {MOST_A_DAY:,} requests a day can be simulated, got {a_day:,.0f}",
                param="requests_per_second",
            )
        days = min(_MOST_DAYS, math.ceil(_ENOUGH / a_day))
        hour = HOUR * min(1.0, most / (a_day * days))
        dice = random.Random(seed)
        requests = []
        for index, rate in enumerate(rates * days):
            at = index * hour
            while rate and (at := at + dice.expovariate(rate)) < (index + 1) * hour:
                requests.append(Request(at, self.prompt_tokens.draw(dice), self.output_tokens.draw(dice)))
        if not requests:
            raise InvalidRequestError(
                f"requests_per_second: in {days} days no request came, at {a_day:.3g} a day",
                param="requests_per_second",
            )
        return Traffic(tuple(requests), HOURS * days * hour, rates)
