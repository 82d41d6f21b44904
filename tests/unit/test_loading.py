"""The model of a process: loaded once, waited for within a deadline, tried again after a failure."""

import io
import threading
import time

import pytest

import handler.loading
from handler.errors import ModelLoadingError, NotInRegistryError, RegistryError, ServiceError
from handler.loading import Following, ModelLoading
from handler.service import TextService
from tests.services import running_service


def test_it_is_loaded_once_whoever_waits() -> None:
    calls = []
    with running_service() as service:

        def load() -> TextService:
            calls.append(1)
            return service

        loading = ModelLoading(load)
        loading.start()
        assert [loading.wait(None) for _ in range(3)] == [service] * 3
    assert calls == [1]


def test_a_request_waits_for_it_within_its_deadline() -> None:
    with running_service() as service:
        released = threading.Event()

        def load() -> TextService:
            released.wait(10)
            return service

        loading = ModelLoading(load)
        with pytest.raises(ModelLoadingError, match="still being loaded") as caught:
            loading.wait(time.time() + 0.05)
        assert caught.value.retry_after == 5

        threading.Timer(0.05, released.set).start()
        assert loading.wait(time.time() + 10) is service


def test_a_failed_load_tells_clients_little_and_the_log_all(log: io.StringIO) -> None:
    def load() -> TextService:
        raise NotInRegistryError("s3://models/models/gpt2/aliases/live does not exist")

    with pytest.raises(RegistryError, match=r"^The model cannot be loaded; the service's log says why\.$"):
        ModelLoading(load).wait(None)
    assert "s3://models/models/gpt2/aliases/live does not exist" in log.getvalue()


def test_a_failed_load_is_tried_again_by_a_later_request(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[TextService | ServiceError] = []

    def load() -> TextService:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    loading = ModelLoading(load)
    with running_service() as service:
        outcomes += [NotInRegistryError("not yet"), service]
        for _ in range(2):  # the second asks too early to start again
            with pytest.raises(RegistryError):
                loading.wait(None)
        monkeypatch.setattr(handler.loading, "RETRY_SECONDS", 0)
        assert loading.wait(None) is service
    assert outcomes == []


def test_a_version_that_cannot_be_loaded_is_tried_again_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(handler.loading, "boot_time", lambda: now[0])
    looks: list[float] = []

    def moved_to() -> None:
        looks.append(now[0])
        raise NotInRegistryError("no such alias")

    following = Following(seconds=10, moved_to=moved_to, fits=lambda _: True, begin=lambda: None)
    with running_service() as service:
        loading = ModelLoading(lambda: service, following)
        for second in range(8000):
            now[0] = second
            assert loading.wait(None) is service
            for thread in threading.enumerate():
                if thread.name == "follow alias":
                    thread.join()
    assert looks == [10, 30, 70, 150, 310, 630, 1270, 2550, 5110]  # and every hour from then on
