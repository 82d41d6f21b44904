"""The end of a container: whoever was let in is answered, and nobody is sent away who could not know."""

import json
import signal
import socket
from collections import Counter

import httpx

from lifecycle.local.cloud import RESULTS_BUCKET
from tests.functional.container.running import LOADING, SLOW, running_container
from tests.functional.events.worker import Place
from tests.serving import PATIENCE, wait_until


def test_what_is_under_way_is_finished_and_then_it_exits_with_0(place: Place) -> None:
    queue = {"REQUEST_QUEUE_URL": place.queue.url, "RESULTS_BUCKET": RESULTS_BUCKET}
    with (
        running_container(SLOW, SECONDS_PER_STEP="0.02", DRAIN_SECONDS="4", **queue) as container,
        httpx.Client(base_url=container.address, timeout=PATIENCE) as client,
    ):
        body = {"prompt": [65], "max_tokens": 50, "temperature": 0, "stream": True}
        place.queue.send({"prompt": "She", "max_tokens": 50, "temperature": 0}, request_id="begun")
        wait_until(place.queue.is_taken)
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as stranger:
            stranger.sendall(b"nonsense\r\n\r\n")
            assert stranger.recv(100).startswith(b"HTTP/1.1 400")
        with client.stream("POST", "/v1/completions", json=body) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            container.terminate()
            wait_until(lambda: client.get("/readyz").status_code == 503)
            refusal = client.get("/readyz")
            # The grace: whoever sends requests here has not noticed yet.
            late = client.post("/v1/completions", json={**body, "max_tokens": 2, "stream": False})
            rest = [first, *lines]
        status, log = container.ended()

    assert refusal.json()["error"] == {
        "message": "This process is about to end; another one will answer.",
        "type": "server_error",
        "param": None,
        "code": "draining",
    }
    assert (refusal.headers["retry-after"], refusal.headers["connection"]) == ("1", "close")
    assert (late.status_code, late.headers["connection"]) == (200, "close")
    assert rest[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in rest if line.startswith("data: {")]
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert list(place.results()) == ["results/sqs/begun.json"]
    assert place.queue.is_empty()
    assert status == 0
    said = Counter(line["message"] for line in log)
    complaint = "Invalid HTTP request received."  # which is uvicorn's, and a line of JSON like the others
    assert said == {"model loaded": 1, "cold start": 1, complaint: 1, "draining": 1, "completion": 3}


def test_what_takes_longer_than_there_is_time_is_cut_off_and_given_back(place: Place) -> None:
    queue = {"REQUEST_QUEUE_URL": place.queue.url, "RESULTS_BUCKET": RESULTS_BUCKET}
    message = '{"prompt": "She", "max_tokens": 50, "temperature": 0}'
    place.queue.send(message, request_id="begun")
    environment = {"SECONDS_PER_STEP": "0.3", "DRAIN_SECONDS": "1", "SERVICE_NAME": "gpt2-gpu", **queue}
    with running_container(SLOW, **environment) as container:
        body = {"prompt": [65], "max_tokens": 50, "temperature": 0, "stream": True}
        with httpx.stream("POST", f"{container.address}/v1/completions", json=body, timeout=PATIENCE) as stream:
            lines = stream.iter_lines()
            next(lines)
            wait_until(place.queue.is_taken)
            container.terminate()
            status, log = container.ended()

    assert status == 1
    [in_flight], cut_off = [line for line in log if line["message"] == "in flight"], log[-1]
    said = Counter(line["message"] for line in log)
    assert said == {"in flight": 1, "model loaded": 1, "cold start": 1, "draining": 1, "cut off": 1}
    assert (cut_off["requests"], cut_off["messages"]) == (1, 1)
    # What containers are added and taken away by, from the beginning.
    assert (in_flight["requests_in_flight"], in_flight["function"]) == (0, "gpt2-gpu")
    assert in_flight["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["function"]]
    assert [returned["Body"] for returned in place.queue.receive()] == [message]
    assert place.results() == {}


def test_a_model_that_is_still_being_loaded_keeps_nobody() -> None:
    with running_container(LOADING, until="/healthz") as container:
        container.terminate(signal.SIGINT)
        status, log = container.ended()
    assert (status, [line["message"] for line in log]) == (0, ["draining"])
