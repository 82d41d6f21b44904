"""The sums, done once by hand with list prices."""

import pytest

from handler.errors import InvalidRequestError
from lifecycle.planning.costs import MONTH, Deployment, Usage, monthly
from lifecycle.planning.prices import read_prices

PRICES = read_prices()


def test_a_function() -> None:
    """A million requests of 0.4 s at 3,008 MB are 1,175,000 GB-seconds; 10,000 starts read 16 chunks each."""
    usage = Usage(MONTH, 1e6, 8e7, invocations=1e6, function_seconds=400_000, starts=10_000)
    assert monthly(usage, Deployment(3008, 126.13e6), PRICES) == pytest.approx(
        {
            "Lambda compute": 19.5833725,
            "Lambda requests": 0.20,
            "HTTP API": 1.00,
            "S3 reads": 0.064,
            "key reads": 0.125,
        }
    )


def test_a_day_is_scaled_to_a_month() -> None:
    """730 hours are 30.4167 days."""
    usage = Usage(86_400, invocations=1000, requests=1000, function_seconds=500)
    dollars = monthly(usage, Deployment(1024, 1.0), PRICES)
    assert dollars["Lambda compute"] == pytest.approx(500 * 730 / 24 * 0.0000166667)
    assert dollars["Lambda requests"] == pytest.approx(1000 * 730 / 24 * 2e-7)


def test_a_gpu_service() -> None:
    """Two instances for a month at 0.8048 $ and 7.8 % of it for managing; 9 million requests are 100 unit-hours."""
    usage = Usage(MONTH, 9e6, gpu_seconds=2 * MONTH, forwarded=9e6)
    assert monthly(usage, Deployment(3008, 126e6, "g6.xlarge"), PRICES) == pytest.approx(
        {
            "key reads": 1.125,
            "GPU instances": 1460 * 0.8048 * 1.078,
            "load balancer": 730 * 0.0225 + 100 * 0.008,
            "NAT gateway": 730 * 0.045,
        }
    )


def test_spot_instances_pay_the_fee_of_those_on_demand() -> None:
    usage = Usage(MONTH, 1, gpu_seconds=MONTH, forwarded=1)
    managed, own = (
        monthly(usage, Deployment(3008, 1.0, "g4dn.xlarge", spot=True, managed=managed), PRICES)["GPU instances"]
        for managed in (True, False)
    )
    assert own == pytest.approx(730 * 0.2039)
    assert managed - own == pytest.approx(730 * 0.526 * 0.078)


def test_a_snapshot_is_paid_for_all_month_and_at_each_start() -> None:
    """2 GB cached for 2,628,000 s, and restored 1,000 times."""
    usage = Usage(MONTH, 1e6, invocations=1e6, starts=1000)
    dollars = monthly(usage, Deployment(2048, 1.0, snapshots=True), PRICES)
    assert dollars["snapshots"] == pytest.approx(2_628_000 * 2 * 0.0000015046 + 1000 * 2 * 0.0001397998)


def test_an_instance_without_a_price_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"^prices: p5\.48xlarge_hour is missing; given are dynamodb_read, "):
        monthly(Usage(MONTH, 1), Deployment(3008, 1.0, "p5.48xlarge"), PRICES)
