"""Traffic that is drawn from a description."""

import random

import numpy as np
import pytest

from handler.api.validation import parse_body
from handler.errors import InvalidRequestError
from lifecycle.planning.traffic import HOUR, Description, Length

FIXED = {"prompt_tokens": 10, "output_tokens": 5}


def described(**fields: object) -> Description:
    return parse_body(Description, fields)


def test_requests_come_at_random_at_their_rate() -> None:
    """The gaps of a Poisson process have its rate as mean and deviation; of 86,400, within 2 %."""
    traffic = described(requests_per_second=1.0, **FIXED).draw()
    gaps = np.diff([request.at for request in traffic.requests])
    assert (traffic.seconds, traffic.rates, traffic.per_day) == (86_400, (1.0,) * 24, 86_400)
    assert (gaps.mean(), gaps.std()) == pytest.approx((1, 1), rel=0.02)
    assert {request[1:] for request in traffic.requests} == {(10, 5)}


def test_each_hour_has_its_rate() -> None:
    rates = [0.0] * 23 + [2.0]
    traffic = described(requests_per_second=rates, **FIXED).draw()
    hours = {int(request.at / HOUR) % 24 for request in traffic.requests}
    assert hours == {23}
    assert traffic.seconds == 3 * 86_400  # 7,200 requests a day: three days have enough of them
    assert len(traffic.requests) == pytest.approx(3 * 7200, rel=0.03)


def test_where_many_come_a_part_of_each_hour_is_played() -> None:
    traffic = described(requests_per_second=10.0, **FIXED).draw(most=8640)
    assert traffic.seconds == pytest.approx(864)
    assert traffic.per_day == 864_000
    assert len(traffic.requests) == pytest.approx(8640, rel=0.05)


def test_the_same_seed_is_the_same_traffic() -> None:
    description = described(requests_per_second=0.1, prompt_tokens={"p50": 20, "p95": 90}, output_tokens=5)
    assert description.draw(1) == description.draw(1) != description.draw(2)


def test_lengths_have_their_percentiles() -> None:
    dice = random.Random(0)
    drawn = [Length(p50=64, p95=200).draw(dice) for _ in range(20_000)]
    assert np.percentile(drawn, [50, 95]) == pytest.approx([64, 200], rel=0.03)
    assert min(drawn) >= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"requests_per_second": 1.0}, "`prompt_tokens` is required."),
        ({"requests_per_second": 1.0, "rate": 1, **FIXED}, "Unknown field: `rate`."),
        (
            {"requests_per_second": 1.0, "prompt_tokens": 0, "output_tokens": 1},
            "`prompt_tokens[p50]`: input should be greater than or equal to 1; given: 0.",
        ),
        (
            {"requests_per_second": 1.0, "prompt_tokens": 1e300, "output_tokens": 1},
            "`prompt_tokens[p50]`: input should be less than or equal to 1000000; given: 1e+300.",
        ),
        (
            {"requests_per_second": -1.0, **FIXED},
            "`requests_per_second[0]`: input should be greater than or equal to 0; given: -1.0.",
        ),
        ({"requests_per_second": [1.0] * 23, **FIXED}, "`requests_per_second`: list should have at least 24 items"),
        ({"requests_per_second": 0, **FIXED}, "must be above 0 in some hour"),
        (
            {"requests_per_second": 1.0, "prompt_tokens": 1, "output_tokens": {"p50": 9.0, "p95": 8.0}},
            "`output_tokens[p95]`: value error, must not be below p50, which is 9; given: 8.0.",
        ),
    ],
)
def test_what_is_no_traffic_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_body(Description, fields)
    assert message in refused.value.message


def test_more_than_can_be_simulated_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="at most 12,000,000 requests a day can be simulated, got 86,400,000"):
        described(requests_per_second=1000, **FIXED).draw()


def test_traffic_that_never_comes_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"in 30 days no request came, at 8\.64e-05 a day"):
        described(requests_per_second=1e-9, **FIXED).draw()
