"""List prices, kept as data with their dates and sources: `prices.json` has those of us-east-1.

Another file of the same form may hold those of another region, or what was negotiated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from handler.api.validation import StrictBody, parse_body
from handler.errors import InvalidRequestError
from lifecycle.checkpoint import read_json

LIST_PRICES: Final = Path(__file__).with_name("prices.json")

# What every plan needs; beside them the prices of the instance it is made for.
NEEDED: Final = (
    "lambda_gb_second", "lambda_request", "snapshot_cached_gb_second", "snapshot_restored_gb", "http_api_request",
    "s3_get", "dynamodb_read", "managed_instances_share", "load_balancer_hour", "load_balancer_unit_hour",
    "nat_gateway_hour",
)  # fmt: skip


class Price(StrictBody):
    """One price, in dollars (or a share of another price) for a unit, and where and when it was read.

    Attributes:
        price: dollars, or the share.
        unit: for what.
        as_of: the date, or year, of the source.
        source: where it was read.
        verified: whether that is a list of AWS's, or a transcription of one.
    """

    price: Annotated[float, Field(ge=0)]
    unit: str
    as_of: str
    source: str
    verified: bool


class _Document(StrictBody):
    """The file."""

    region: str
    currency: str
    prices: dict[str, Price]


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of a region.

    Attributes:
        region: the region.
        named: every price by its name.
    """

    region: str
    named: Mapping[str, Price]

    def __getitem__(self, name: str) -> float:
        """Dollars for a unit.

        Raises:
            InvalidRequestError: the price is missing.
        """
        if name not in self.named:
            raise InvalidRequestError(
                f"prices: {name} is missing; given are {', '.join(sorted(self.named))}", param="prices"
            )
        return self.named[name].price

    @property
    def unverified(self) -> tuple[str, ...]:
        """The names of those that are not verified."""
        return tuple(name for name, price in self.named.items() if not price.verified)


def read_prices(path: Path = LIST_PRICES) -> Prices:
    """Read a file of prices.

    Raises:
        InvalidRequestError: a price that every plan needs is missing, or a field is wrong; the message names it.
        CorruptModelError: it is no JSON object.
    """
    document = parse_body(_Document, read_json(path))
    prices = Prices(document.region, document.prices)
    for name in NEEDED:
        _ = prices[name]
    return prices
