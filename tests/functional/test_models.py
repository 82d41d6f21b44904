"""The models of a process and their aliases in a real registry: followed, kept, let go of, and never mixed.

What is loaded from the bucket is real; the engine behind it is one whose tokens are known in advance.
"""

import gc
import io
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient

from handler.app import create_app
from handler.completion import TextRequest
from handler.errors import ModelLoadingError, RegistryError, UnknownModelError
from handler.fetching import Fetching
from handler.inference.protocol import SamplingParams
from handler.inference.scheduler import Scheduler
from handler.memory import PROCESS_BYTES, Memory
from handler.models import Models, share_of
from handler.registry.manifest import Manifest
from handler.registry.names import alias_key, file_key
from handler.service import TextService
from handler.stages import ColdStart
from lifecycle.promoting import promote
from lifecycle.store import WritableStore
from lifecycle.watching import Watch
from tests.fake_engine import FakeEngine
from tests.manifests import put_version
from tests.models import tiny_tokenizer
from tests.services import VOCABULARY, make_settings
from tests.serving import served, wait_until

FOREVER = 1_000_000
AT_ONCE = 1e-9  # seconds: every request has the alias looked at


class Process:
    """Models as in one process, what was loaded, and the engines behind it."""

    def __init__(self, *, room_for: int = 10, refresh: float = AT_ONCE, **settings: Any) -> None:
        self.settings = make_settings(models_bucket="models-bucket", **settings).model_copy(
            update={"refresh_seconds": refresh}
        )
        self.permits = threading.Semaphore(FOREVER)
        self.loads: list[str] = []
        self.schedulers: list[weakref.ref[Scheduler]] = []
        self.alive_at_load: list[int] = []
        self.models = Models(
            self.settings,
            Memory(PROCESS_BYTES + room_for * 10_000, kv_cache=0),
            self._fetching(self.settings.model_name, "live"),
            self._fetching,
            self._load,
        )

    def version(self, **ask: Any) -> str:
        """Which version answers a request."""
        return self.models.wait(time.time() + 30, **ask).model.version

    @property
    def alive(self) -> int:
        gc.collect()
        return len([1 for scheduler in self.schedulers if scheduler() is not None])

    @staticmethod
    def _fetching(name: str, alias: str) -> Fetching:
        return Fetching({"MODELS_BUCKET": "models-bucket", "MODEL_NAME": name, "MODEL_ALIAS": alias}, ColdStart())

    def _load(self, fetching: Fetching) -> TextService:
        self.alive_at_load.append(self.alive)
        model = fetching.model()
        self.loads.append(model.manifest.version)
        scheduler = Scheduler(FakeEngine(vocabulary_size=VOCABULARY, permits=self.permits))
        self.schedulers.append(weakref.ref(scheduler))
        fetching.keep(model)
        return TextService(model.manifest, tiny_tokenizer(VOCABULARY), scheduler, self.settings)


def published(store: WritableStore, seed: int, name: str = "tiny", alias: str = "live") -> Manifest:
    """A version of 9,000 bytes, at which an alias points from now on."""
    return put_version(store, {"model.safetensors": bytes([seed]) * 9_000}, name, alias)


@contextmanager
def looking_on(process: Process) -> Iterator[None]:
    """Every thread that was started inside has ended at the end."""
    before = set(threading.enumerate())
    yield
    wait_until(lambda: not [t for t in set(threading.enumerate()) - before if t.name in ("follow alias", "load model")])


def test_an_alias_that_moves_is_followed_between_two_requests(store: WritableStore) -> None:
    old = published(store, 1)
    process = Process()
    assert process.version() == old.version
    new = published(store, 2)
    wait_until(lambda: process.version() == new.version)
    assert process.loads == [old.version, new.version]


def test_a_request_is_answered_by_the_version_it_began_with_and_then_the_old_one_is_gone(store: WritableStore) -> None:
    old = published(store, 1)
    process = Process()
    process.permits = threading.Semaphore(0)
    service = process.models.wait(None)
    greedy = SamplingParams(temperature=0)
    stream = iter(service.stream(TextRequest(prompts=[[65]], max_tokens=4, sampling=greedy)))
    process.permits.release()
    next(stream)
    new = published(store, 2)
    wait_until(lambda: process.version() == new.version)

    assert process.alive == 2
    assert service.model.version == old.version
    process.permits.release(FOREVER)
    assert list(stream)[-1].finish_reason == "length"
    del service, stream
    wait_until(lambda: process.alive == 1)


def test_a_version_that_cannot_be_loaded_leaves_the_old_one(store: WritableStore, log: io.StringIO) -> None:
    old = published(store, 1)
    process = Process()
    process.version()
    broken = published(store, 2)
    key = file_key("tiny", broken.version, "model.safetensors")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=b"x" * 9_000)
    with looking_on(process):
        assert process.version() == old.version
    assert '"message":"alias not followed"' in log.getvalue()
    assert process.version() == old.version

    mended = published(store, 3)
    wait_until(lambda: process.version() == mended.version)


def test_an_alias_that_cannot_be_asked_leaves_the_old_version(store: WritableStore) -> None:
    old = published(store, 1)
    process = Process()
    process.version()
    store.delete(alias_key("tiny", "live"))
    with looking_on(process):
        assert process.version() == old.version
    assert process.version() == old.version


def test_without_memory_for_two_the_old_version_goes_first(store: WritableStore) -> None:
    old = published(store, 1)
    process = Process(room_for=1)
    assert process.version() == old.version
    new = published(store, 2)
    process.version()
    wait_until(lambda: process.loads == [old.version, new.version])
    assert process.version() == new.version  # whoever asks meanwhile waits
    assert process.alive_at_load == [0, 0]


def test_without_memory_for_two_whoever_is_being_answered_is_answered_first(store: WritableStore) -> None:
    old = published(store, 1)
    process = Process(room_for=1)
    service = process.models.wait(None)  # and has not asked it anything yet
    new = published(store, 2)

    def others_wait() -> bool:
        try:
            process.models.wait(time.time() + 0.1)
        except ModelLoadingError:
            return True
        return False

    wait_until(others_wait)
    assert process.loads == [old.version]
    assert service.complete(TextRequest(prompts=[[65]], max_tokens=1)).choices
    del service
    assert process.version() == new.version
    assert process.alive_at_load == [0, 0]


def test_an_alias_is_not_looked_at_before_its_time(store: WritableStore) -> None:
    old = published(store, 1)
    for refresh in (0, 60):
        process = Process(refresh=refresh)
        process.version()
        published(store, 2)
        with looking_on(process):
            assert process.version() == old.version
        assert process.loads == [old.version]
        old = published(store, 1)


def test_an_alias_that_moved_there_and_back_loads_nothing(store: WritableStore) -> None:
    old = published(store, 1)
    process = Process()
    process.version()
    store.client.put_object(Bucket=store.bucket, Key=alias_key("tiny", "live"), Body=f"{old.version}\n{{}}".encode())
    with looking_on(process):
        process.version()
    assert process.loads == [old.version]


def test_other_models_are_loaded_when_asked_for_and_the_one_unused_longest_goes(store: WritableStore) -> None:
    versions = {name: published(store, seed, name).version for seed, name in enumerate(("tiny", "a", "b", "c"))}
    process = Process(room_for=3, models="a,b,c", refresh=0)
    for name in ("tiny", "a", "b", "a", "c", "a", "tiny"):  # "b" goes for "c"
        assert process.version(model=name) == versions[name]
    assert process.loads == [versions[name] for name in ("tiny", "a", "b", "c")]
    assert process.alive == 3
    assert process.version(model="b") == versions["b"]  # and "c" for "b"
    assert process.version(model="a") == versions["a"]
    assert process.loads[4:] == [versions["b"]]


def test_a_model_that_does_not_fit_is_told_in_the_log(store: WritableStore, log: io.StringIO) -> None:
    published(store, 1)
    published(store, 2, "a")
    process = Process(room_for=1, models="a")
    process.version()
    with pytest.raises(RegistryError, match="the service's log says why"):
        process.version(model="a")
    assert "does not fit into memory beside what is loaded" in log.getvalue()
    assert process.version()


def test_a_model_that_is_not_on_the_list_is_unknown_wherever_it_lies(store: WritableStore) -> None:
    published(store, 1)
    published(store, 2, "secret")
    process = Process(models="a")
    with pytest.raises(UnknownModelError, match=r"^`model`: 'tiny', 'a' are served here; given: 'secret'\.$"):
        process.version(model="secret")


def test_a_share_of_the_requests_goes_to_the_canary_once_it_is_there(store: WritableStore) -> None:
    live, canary = published(store, 1), published(store, 2, alias="canary")
    process = Process(canary_percent=25, refresh=0)
    callers = [f"request-{number}" for number in range(400)]
    chosen = [caller for caller in callers if share_of(caller) < 25]
    assert 70 < len(chosen) < 130
    assert process.version(caller=chosen[0]) == live.version  # it has the canary loaded, and waits for nothing
    wait_until(lambda: process.version(caller=chosen[0]) == canary.version)
    answered = {caller: process.version(caller=caller) for caller in callers}
    assert [caller for caller, version in answered.items() if version == canary.version] == chosen
    assert process.version() == live.version  # nobody's request in particular


def test_a_promotion_reaches_a_running_server_and_whoever_waits_for_it(store: WritableStore) -> None:
    published(store, 1)
    second = published(store, 2, alias="next")
    process = Process()
    with served(create_app(process.settings, process.models)) as client:
        address = str(client.base_url).removesuffix("/v1/")
        move = promote(store, "tiny", second.version, "live", force=True)
        assert move is not None
        told: list[str | None] = []
        Watch(address, seconds=30, sleep=lambda _: time.sleep(0.01)).until_arrived(
            store, "tiny", "live", move, told.append
        )
        assert told[-1] == second.version
        answer = client.completions.create(model="tiny", prompt="She", max_tokens=1)
        assert answer.system_fingerprint == f"{second.version}-fake"


def test_without_a_canary_everything_is_answered_by_what_is_live(store: WritableStore) -> None:
    live = published(store, 1)
    process = Process(canary_percent=100)
    with looking_on(process):
        assert process.version(caller="anybody") == live.version
    assert process.version(caller="anybody") == live.version


def test_over_http_a_request_names_its_model_and_the_response_its_version(store: WritableStore) -> None:
    tiny, other = published(store, 1), published(store, 2, "other")
    process = Process(models="other,missing", refresh=0)
    with TestClient(create_app(process.settings, process.models)) as client:
        listed = client.get("/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["tiny", "other"]
        assert process.loads == [tiny.version]
        for name, version in (("tiny", tiny.version), ("other", other.version)):
            body = {"model": name, "prompt": "She", "max_tokens": 1}
            whole = client.post("/v1/completions", json=body)
            streamed = client.post("/v1/completions", json={**body, "stream": True})
            assert whole.json()["model"] == name
            assert {whole.headers["x-model-version"], streamed.headers["x-model-version"]} == {version}
            assert client.get(f"/v1/models/{name}").json()["version"] == version
        assert client.get("/readyz").headers["x-model-version"] == tiny.version
        assert "x-model-version" not in client.get("/healthz").headers
        unknown = client.post("/v1/completions", json={"model": "gpt-5", "prompt": "She"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        missing = client.post("/v1/completions", json={"model": "missing", "prompt": "She"})
        assert (missing.status_code, missing.json()["error"]["code"]) == (503, "model_unavailable")
        for nonsense in (b"{", b"[1]", b'{"model": 7, "prompt": "a"}'):
            assert client.post("/v1/completions", content=nonsense).status_code == 400
