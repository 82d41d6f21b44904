"""What is read of a stream, and what is made of it."""

import httpx
import pytest

from bench.report import Report
from bench.streaming import SETTING, TOKENS, add, read_stream
from tests.fake_engine import FakeEngine
from tests.services import VOCABULARY, make_settings, running_app
from tests.serving import served


def test_each_text_of_a_stream_has_its_time() -> None:
    engine = FakeEngine(vocabulary_size=VOCABULARY, context_length=2 * TOKENS)
    with running_app(engine, make_settings(max_tokens=TOKENS)) as app, served(app) as openai:
        address = str(openai.base_url).removesuffix("/v1/")
        with httpx.Client(base_url=address) as client:
            times = read_stream(client, "He said", seed=1)
    assert len(times) > TOKENS / 2  # some tokens are parts of characters
    assert times == sorted(times)


def test_what_is_added_is_the_difference_of_the_gaps() -> None:
    report = Report()
    add(report, {"uvicorn": [0.010, 0.012, 0.014], "function-url": [0.012, 0.0145, 0.017]})
    medians = {(each.figure, each.subject): report.median(each.figure, each.subject, SETTING) for each in report}
    assert medians == pytest.approx(
        {
            ("first_token", "uvicorn"): 10,
            ("gap", "uvicorn"): 2,
            ("first_token", "function-url"): 12,
            ("gap", "function-url"): 2.5,
            ("added", "function-url"): 0.5,
        }
    )
