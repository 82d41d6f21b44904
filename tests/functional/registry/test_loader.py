"""The loader: the right bytes or a clear error, whatever happens on the way."""

import threading
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from botocore.response import StreamingBody

from handler.errors import AccessDeniedError, CorruptModelError, NotInRegistryError, StoreUnavailableError
from handler.registry.loader import ATTEMPTS, load_model
from handler.registry.names import alias_key, file_key
from handler.registry.store import ModelStore
from tests.manifests import CHUNK_SIZE, put_version

WEIGHTS = b"".join(number.to_bytes(4, "little") for number in range(10_000))  # 40,000 bytes, 10 chunks, no two alike
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": bytes(CHUNK_SIZE)}

Answer = dict[str, Any]
Fault = Callable[[Answer], Answer]


class FaultyClient:
    """A client whose ranged reads meet faults: the n-th read of a range meets the n-th of its faults, then none."""

    def __init__(self, client: Any, faults: dict[str, list[Fault]]) -> None:
        self._client = client
        self._faults = faults
        self._lock = threading.Lock()
        self.reads: Counter[tuple[str, str]] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_object(self, **request: Any) -> Answer:
        answer: Answer = self._client.get_object(**request)
        if "Range" not in request:
            return answer
        with self._lock:
            self.reads[request["Key"].rpartition("/")[2], request["Range"]] += 1
            faults = self._faults.get(request["Range"], [])
            fault = faults.pop(0) if faults else None
        return fault(answer) if fault else answer


def slow_down(answer: Answer) -> Answer:
    raise ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "GetObject")  # type: ignore[typeddict-item]


def access_denied(answer: Answer) -> Answer:
    raise ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")  # type: ignore[typeddict-item]


def connection_closed(answer: Answer) -> Answer:
    raise ConnectionClosedError(endpoint_url="https://s3")


def times_out_in_the_body(answer: Answer) -> Answer:
    class Hanging(BytesIO):
        def readinto(self, buffer: Any) -> int:
            raise ReadTimeoutError(endpoint_url="https://s3")

    return answer | {"Body": Hanging()}


def truncated(answer: Answer) -> Answer:
    data = answer["Body"].read()
    return answer | {"Body": StreamingBody(BytesIO(data[:-1]), len(data))}


def one_bit_flipped(answer: Answer) -> Answer:
    data = bytearray(answer["Body"].read())
    data[len(data) // 2] ^= 1
    return answer | {"Body": StreamingBody(BytesIO(bytes(data)), len(data))}


TRANSIENT = [slow_down, connection_closed, times_out_in_the_body, truncated, one_bit_flipped]
RANGE = f"bytes={3 * CHUNK_SIZE}-{4 * CHUNK_SIZE - 1}"  # the fourth chunk of the weights


def faulty(store: ModelStore, *faults: Fault) -> tuple[ModelStore, FaultyClient]:
    client = FaultyClient(store.client, {RANGE: list(faults)})
    return ModelStore(client, store.bucket), client  # type: ignore[arg-type]


def test_every_file_arrives_whole(store: ModelStore) -> None:
    manifest = put_version(store, FILES)
    model = load_model(store, "gpt2", "live")
    assert model.manifest == manifest
    assert {path: bytes(data) for path, data in model.files.items()} == FILES


def test_every_chunk_is_read_once_and_in_its_own_request(store: ModelStore) -> None:
    put_version(store, FILES)
    reading, client = faulty(store)
    load_model(reading, "gpt2", "live")
    assert sum(client.reads.values()) == len(client.reads) == 12
    assert ("model.safetensors", "bytes=36864-39999") in client.reads  # the last one ends where the file does


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_chunk_that_fails_once_is_read_again_alone(store: ModelStore, fault: Fault) -> None:
    put_version(store, FILES)
    reading, client = faulty(store, fault)
    waits: list[float] = []
    model = load_model(reading, "gpt2", "live", sleep=waits.append)
    assert {path: bytes(data) for path, data in model.files.items()} == FILES
    assert {request: count for request, count in client.reads.items() if count > 1} == {("model.safetensors", RANGE): 2}
    assert len(waits) == 1


def test_waits_grow_and_are_random(store: ModelStore) -> None:
    put_version(store, FILES)
    waits: list[float] = []
    reading, _ = faulty(store, *TRANSIENT[: ATTEMPTS - 1])
    load_model(reading, "gpt2", "live", sleep=waits.append)
    assert len(waits) == ATTEMPTS - 1
    assert all(0 <= wait <= longest for wait, longest in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True))
    assert len(set(waits)) == len(waits)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (slow_down, StoreUnavailableError, "model.safetensors cannot be had right now: S3 answered 503 SlowDown"),
        (truncated, StoreUnavailableError, "the store did not answer as it should: 4095 read"),
        (one_bit_flipped, CorruptModelError, "model.safetensors, bytes 12288 to 16383 do not have the SHA-256"),
    ],
)
def test_what_fails_for_ever_is_given_up_and_named(
    store: ModelStore, fault: Fault, error: type[Exception], message: str
) -> None:
    put_version(store, FILES)
    reading, client = faulty(store, *[fault] * 100)
    with pytest.raises(error, match=message):
        load_model(reading, "gpt2", "live", sleep=lambda _seconds: None)
    assert client.reads["model.safetensors", RANGE] == ATTEMPTS


def test_a_refusal_is_final(store: ModelStore) -> None:
    put_version(store, FILES)
    reading, client = faulty(store, *[access_denied] * 100)
    with pytest.raises(
        AccessDeniedError, match=r"model\.safetensors may not be accessed: S3 answered 403 AccessDenied"
    ):
        load_model(reading, "gpt2", "live", sleep=lambda _seconds: pytest.fail("waited"))
    assert client.reads["model.safetensors", RANGE] == 1


def test_an_object_of_another_size_is_corrupt(store: ModelStore) -> None:
    manifest = put_version(store, FILES)
    key = file_key("gpt2", manifest.version, "model.safetensors")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=WEIGHTS[:-1])
    with pytest.raises(CorruptModelError, match=r"model\.safetensors has 39999 bytes, and its manifest says 40000"):
        load_model(store, "gpt2", "live", sleep=lambda _seconds: pytest.fail("waited"))


def test_a_wrong_byte_in_the_store_is_never_loaded(store: ModelStore) -> None:
    manifest = put_version(store, FILES)
    key = file_key("gpt2", manifest.version, "model.safetensors")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=WEIGHTS[:-1] + b"!")
    with pytest.raises(CorruptModelError, match=r"model\.safetensors, bytes 36864 to 39999 do not have the SHA-256"):
        load_model(store, "gpt2", "live", sleep=lambda _seconds: None)


def test_an_object_replaced_while_it_is_read_is_noticed(store: ModelStore) -> None:
    manifest = put_version(store, FILES)
    key = file_key("gpt2", manifest.version, "model.safetensors")

    def replace_then_fail(answer: Answer) -> Answer:
        store.client.put_object(Bucket=store.bucket, Key=key, Body=bytes(len(WEIGHTS)))
        return slow_down(answer)

    reading, _ = faulty(store, replace_then_fail)
    with pytest.raises(CorruptModelError, match=r"model\.safetensors was replaced while it was read"):
        load_model(reading, "gpt2", "live", sleep=lambda _seconds: None)


@pytest.mark.parametrize("path", ["config.json", "model.safetensors", "manifest.json"])
def test_a_missing_file_is_named(store: ModelStore, path: str) -> None:
    manifest = put_version(store, FILES)
    store.client.delete_object(Bucket=store.bucket, Key=file_key("gpt2", manifest.version, path))
    with pytest.raises(NotInRegistryError, match=f"{manifest.version}/{path} does not exist"):
        load_model(store, "gpt2", "live", sleep=lambda _seconds: pytest.fail("waited"))


def test_a_missing_alias_is_named(store: ModelStore) -> None:
    put_version(store, FILES)
    with pytest.raises(NotInRegistryError, match="s3://models-bucket/models/gpt2/aliases/canary does not exist"):
        load_model(store, "gpt2", "canary", sleep=lambda _seconds: pytest.fail("waited"))


def test_an_alias_moved_while_loading_does_not_mix_versions(store: ModelStore) -> None:
    put_version(store, FILES)

    def move(answer: Answer) -> Answer:
        put_version(store, {"config.json": b"[]"})
        return answer

    reading, _ = faulty(store, move)
    model = load_model(reading, "gpt2", "live")
    assert {path: bytes(data) for path, data in model.files.items()} == FILES
    assert bytes(load_model(store, "gpt2", "live").files["config.json"]) == b"[]"


def test_an_alias_to_an_unpublished_version_is_told(store: ModelStore) -> None:
    store.client.put_object(Bucket=store.bucket, Key=alias_key("gpt2", "live"), Body=b"v0123456789abcdef")
    with pytest.raises(NotInRegistryError, match=r"versions/v0123456789abcdef/manifest\.json does not exist"):
        load_model(store, "gpt2", "live", sleep=lambda _seconds: pytest.fail("waited"))


def test_loading_leaves_no_thread_behind(store: ModelStore) -> None:
    put_version(store, FILES)
    load_model(store, "gpt2", "live")
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("load-model")] == []
