"""A promotion that arrives, does not, or does harm: over HTTP, with alarms, and a clock that is turned by hand."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import pytest

from handler.errors import InvalidRequestError, NotInRegistryError, RegistryError, StoreUnavailableError
from handler.registry.names import alias_key
from lifecycle.aliases import Move, history
from lifecycle.promoting import promote
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from lifecycle.watching import IN_A_ROW, Watch
from tests.checkpoints import checkpoint


class Clock:
    """Time that passes when somebody waits, and what happens then."""

    def __init__(self, *happens: Callable[[], object]) -> None:
        self.now = 0.0
        self._happens = list(happens)

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._happens:
            self._happens.pop(0)()


@contextmanager
def answering(*versions: str | None) -> Iterator[str]:
    """A service whose answers name these versions, one after the other, the last one for ever; its address."""
    left = list(versions)

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(200 if self.path == "/readyz" and version else 503)
            if version:
                self.send_header("x-model-version", version)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_is_no_http_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 no web server\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert Watch(f"http://127.0.0.1:{listener.getsockname()[1]}").answering() is None
        thread.join()


@pytest.fixture
def versions(store: WritableStore, tmp_path: Path) -> list[str]:
    return [publish(checkpoint(tmp_path / f"c{seed}", seed=seed).folder, store, "tiny").version for seed in range(2)]


@pytest.fixture
def move(store: WritableStore, versions: list[str]) -> Move:
    """From the first version to the second, just now."""
    promote(store, "tiny", versions[0], "live", force=True)
    moved = promote(store, "tiny", versions[1], "live", force=True)
    assert moved is not None
    return moved


@pytest.fixture
def alarm(aws: str) -> str:
    boto3.client("cloudwatch").put_metric_alarm(
        AlarmName="errors",
        Namespace="gpt2",
        MetricName="errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    set_alarm("OK")
    return "errors"


def set_alarm(state: str) -> None:
    boto3.client("cloudwatch").set_alarm_state(AlarmName="errors", StateValue=state, StateReason="a test")


def test_it_waits_until_several_answers_in_a_row_are_the_new_versions(store: WritableStore, move: Move) -> None:
    old, new = move.before, move.version
    told: list[str | None] = []
    clock = Clock()
    with answering(old, new, old, None, new) as address:
        Watch(address, clock=clock.read, sleep=clock.sleep).until_arrived(store, "tiny", "live", move, told.append)
    assert told == [old, new, old, None, new]
    assert clock.now == 2.0 * (4 + IN_A_ROW - 1)


def test_a_version_that_does_not_arrive_in_time_is_told_and_the_alias_stays(store: WritableStore, move: Move) -> None:
    clock = Clock()
    with (
        answering(move.before) as address,
        pytest.raises(
            StoreUnavailableError,
            match=rf"{move.version} did not arrive at {address} within 20 s, where {move.before} answers",
        ),
    ):
        Watch(address, seconds=20, clock=clock.read, sleep=clock.sleep).until_arrived(store, "tiny", "live", move)
    assert store.alias("tiny", "live").version == move.version


def test_an_alarm_takes_the_alias_back(store: WritableStore, move: Move, alarm: str) -> None:
    clock = Clock(*[lambda: None] * 5, lambda: set_alarm("ALARM"))
    with (
        answering(move.version) as address,
        pytest.raises(
            RegistryError, match=f"errors fired while {move.version} arrived; live of tiny is back at {move.before}"
        ),
    ):
        Watch(address, [alarm], clock=clock.read, sleep=clock.sleep).until_arrived(store, "tiny", "live", move)
    assert store.alias("tiny", "live").version == move.before
    last = history(store, "tiny", "live")[-1]
    assert (last.action, last.why) == ("rollback", f"errors fired while {move.version} arrived")


def test_alarms_are_watched_to_the_end(store: WritableStore, move: Move, alarm: str) -> None:
    clock = Clock()
    with answering(move.version) as address:
        Watch(address, [alarm], 30, clock.read, clock.sleep).until_arrived(store, "tiny", "live", move)
    assert clock.now == 30


def test_an_alias_that_somebody_else_moved_is_theirs(store: WritableStore, move: Move, alarm: str) -> None:
    set_alarm("ALARM")
    promote(store, "tiny", str(move.before), "live", force=True)
    with pytest.raises(RegistryError, match="was moved by somebody else meanwhile, and stays there"):
        Watch("http://127.0.0.1:1", [alarm]).until_arrived(store, "tiny", "live", move)


def test_what_cannot_be_taken_back_is_told(store: WritableStore, versions: list[str], alarm: str) -> None:
    first = promote(store, "tiny", versions[0], "live", force=True)
    assert first is not None
    set_alarm("ALARM")
    with pytest.raises(RegistryError, match="and there is nothing to take back to: live of tiny points to"):
        Watch("http://127.0.0.1:1", [alarm]).until_arrived(store, "tiny", "live", first)
    second = promote(store, "tiny", versions[1], "live", force=True)
    assert second is not None
    store.delete(f"models/tiny/versions/{versions[0]}/manifest.json")
    with pytest.raises(RegistryError, match=r"could not be taken back: .* does not exist"):
        Watch("http://127.0.0.1:1", [alarm]).until_arrived(store, "tiny", "live", second)
    assert store.read(alias_key("tiny", "live"))[0].startswith(versions[1].encode())


def test_nothing_is_moved_under_an_alarm_that_fires_or_is_none(alarm: str) -> None:
    Watch("https://api.example", [alarm]).check()
    set_alarm("ALARM")
    with pytest.raises(InvalidRequestError, match="alarm: errors fires already; nothing was moved"):
        Watch("https://api.example", [alarm]).check()
    with pytest.raises(NotInRegistryError, match="alarm: there is none called latency"):
        Watch("https://api.example", ["latency"]).check()
    with pytest.raises(InvalidRequestError, match="wait must be an http or https address, not 'file:///etc/passwd'"):
        Watch("file:///etc/passwd").check()


def test_nobody_who_answers_is_no_version() -> None:
    assert Watch("http://127.0.0.1:1").answering() is None
