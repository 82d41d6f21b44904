"""Results in a bucket: written once, found again, and not lost when S3 throttles, fails or loses its answer."""

import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from handler.errors import RequestIdReusedError, StorageUnavailableError
from handler.kept.results import RequestKey, Response, Results, request_key
from handler.kept.storage import ATTEMPTS, Storage, storage_of
from handler.registry.s3 import s3_client
from tests.functional.flaky_s3 import Flaky, flaky_s3

KEY = request_key("sqs", "She", "one")
KEPT = {"request_id": "one", "request_sha256": KEY.digest, "response": {"text": "said"}}


@pytest.fixture(scope="module")
def server() -> Iterator[Flaky]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with flaky_s3() as flaky:
        yield flaky


@pytest.fixture
def flaky(server: Flaky, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    server.failures.clear()
    urlopen(Request(f"{server.endpoint}/moto-api/reset", method="POST")).close()
    s3_client().create_bucket(Bucket="results")
    server.requests.clear()
    return server


@pytest.fixture
def results(flaky: Flaky) -> Results:
    return Results(storage_of("results"))


def never() -> Response:
    raise AssertionError("the result is there already")


def kept(results: Results) -> Any:
    data = results.storage.read("results/sqs/one.json")
    return None if data is None else json.loads(data)


def test_a_response_is_made_once_and_found_from_then_on(results: Results) -> None:
    assert results.once(KEY, lambda: {"text": "said"}) == {"text": "said"}
    assert results.once(KEY, never) == {"text": "said"}
    assert kept(results) == KEPT


def test_who_comes_second_takes_what_the_first_one_kept(results: Results) -> None:
    def overtaken() -> Response:
        assert results.once(KEY, lambda: {"text": "said"}) == {"text": "said"}
        return {"text": "replied"}

    assert results.once(KEY, overtaken) == {"text": "said"}
    assert kept(results) == KEPT


def test_an_id_belongs_to_what_was_asked_first(results: Results) -> None:
    results.once(KEY, lambda: {"text": "said"})
    with pytest.raises(RequestIdReusedError) as caught:
        results.once(request_key("sqs", "He", "one"), never)
    assert caught.value.message == "`request_id`: 'one' has been used for a request that asked something else."
    assert kept(results) == KEPT


def test_what_fails_leaves_nothing(results: Results) -> None:
    def fail() -> Response:
        raise StorageUnavailableError("no")

    with pytest.raises(StorageUnavailableError):
        results.once(KEY, fail)
    assert kept(results) is None


def test_sources_do_not_meet(results: Results) -> None:
    assert request_key("sqs", "She").path == f"results/sqs/{KEY.digest}.json"
    assert request_key("sns", "She", "one") == RequestKey("sns", "one", KEY.digest)
    results.once(KEY, lambda: {"text": "said"})
    assert results.once(request_key("sns", "She", "one"), lambda: {"text": "sang"}) == {"text": "sang"}


@pytest.mark.parametrize("failure", [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")])
def test_throttling_and_failures_are_overcome(flaky: Flaky, results: Results, failure: tuple[int, str]) -> None:
    flaky.failures.extend([failure, failure])
    assert results.once(KEY, lambda: {"text": "said"}) == {"text": "said"}
    assert flaky.requests == [("GET", "/results/results/sqs/one.json")] * 3 + [("PUT", "/results/results/sqs/one.json")]


def test_a_write_whose_answer_was_lost_counts(flaky: Flaky, results: Results) -> None:
    """S3 wrote the object and failed to say so; asked again, it says that there is one already."""

    def answer() -> Response:
        flaky.failures.append((500, "InternalError"))
        flaky.lost_answers = 1
        return {"text": "said"}

    assert results.once(KEY, answer) == {"text": "said"}
    assert [method for method, _ in flaky.requests] == ["GET", "PUT", "PUT", "GET"]
    assert kept(results) == KEPT


def test_what_goes_on_failing_is_an_error_that_names_nothing_inside(
    flaky: Flaky, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky.failures.extend([(503, "SlowDown")] * ATTEMPTS)
    with pytest.raises(StorageUnavailableError) as caught:
        results.once(KEY, never)
    assert (caught.value.message, caught.value.retry_after) == ("The results bucket does not answer as it should.", 1)
    assert len(flaky.requests) == ATTEMPTS


@pytest.mark.parametrize("failure", [(403, "AccessDenied"), (400, "InvalidRequest")])
def test_refusals_are_not_asked_again(flaky: Flaky, results: Results, failure: tuple[int, str]) -> None:
    flaky.failures.append(failure)
    with pytest.raises(StorageUnavailableError):
        results.storage.create("results/sqs/one.json", b"{}")
    assert len(flaky.requests) == 1


def test_a_result_that_vanishes_is_made_again_later(flaky: Flaky, results: Results) -> None:
    def in_the_way() -> Response:
        flaky.failures.append((409, "ConditionalRequestConflict"))
        return {"text": "said"}

    with pytest.raises(StorageUnavailableError, match="written and removed"):
        results.once(KEY, in_the_way)
    assert results.once(KEY, lambda: {"text": "said"}) == {"text": "said"}


def test_storage_needs_a_bucket() -> None:
    with pytest.raises(StorageUnavailableError, match="RESULTS_BUCKET is not set"):
        storage_of("")
    assert isinstance(storage_of("results"), Storage)
