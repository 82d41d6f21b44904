"""Prices as data: every one has a date and a source, and what is missing or wrong is named."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from handler.errors import InvalidRequestError
from lifecycle.planning.prices import LIST_PRICES, NEEDED, read_prices


def changed(folder: Path, name: str, fields: Mapping[str, Any] | None) -> Path:
    """The list prices with one price's fields changed, or without it."""
    document = json.loads(LIST_PRICES.read_text())
    price = document["prices"].pop(name)
    if fields is not None:
        document["prices"][name] = price | fields
    (folder / "prices.json").write_text(json.dumps(document))
    return folder / "prices.json"


def test_list_prices_say_where_they_are_from() -> None:
    prices = read_prices()
    assert prices.region == "us-east-1"
    assert all(price.source and price.as_of and price.unit for price in prices.named.values())
    # What is from memory, or from a page that is not AWS's, says so.
    assert {"nat_gateway_hour", "managed_instances_share"} < set(prices.unverified)


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_price_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=f"^prices: {name} is missing"):
        read_prices(changed(tmp_path, name, None))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"price": -1},
            "`prices[s3_get][price]`: input should be greater than or equal to 0; given: -1.",
        ),
        (
            {"price": "free"},
            "`prices[s3_get][price]`: input should be a valid number; given: a string of 4 characters.",
        ),
        ({"currency": "EUR"}, "Unknown field: `prices[s3_get][currency]`."),
    ],
)
def test_a_wrong_price_is_refused(fields: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_prices(changed(tmp_path, "s3_get", fields))
    assert refused.value.message == message
