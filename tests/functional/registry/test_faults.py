"""What networks and stores do on their bad days: the right bytes or a clear error, never a wrong byte, never a rest."""

import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import pytest

from handler.errors import AccessDeniedError, CorruptModelError, RegistryError, StoreUnavailableError
from handler.registry import wire
from handler.registry.cache import LocalCache
from handler.registry.chunks import ATTEMPTS
from handler.registry.loader import ModelSource
from handler.registry.names import MANIFEST, alias_key, file_key
from lifecycle.store import WritableStore
from tests.functional.registry.misbehaving import Answer, Fault, Proxy, misbehaving, once
from tests.manifests import CHUNK_SIZE, manifest_of, put_version, sha256

WEIGHTS = b"".join(number.to_bytes(4, "little") for number in range(10_000))  # 40,000 bytes, 10 chunks, no two alike
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": bytes(CHUNK_SIZE)}


@pytest.fixture
def proxy(store: WritableStore, aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the bucket, in which a version is live."""
    put_version(store, FILES)
    with misbehaving(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the copy goes; after each test no thread is left, and nothing that is unfinished."""
    yield tmp_path / "models"
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("load-model")] == []
    assert list(tmp_path.glob("models/.*")) == []


def load(folder: Path) -> dict[str, bytes]:
    """Load what is live, and keep a copy of it."""
    source = ModelSource("models-bucket", "gpt2", "live", LocalCache(folder, max_bytes=100_000))
    model = source.load(sleep=lambda _seconds: None)
    source.keep(model)
    return {path: bytes(data) for path, data in model.files.items()}


@contextmanager
def refused(folder: Path, error: type[RegistryError], match: str) -> Iterator[None]:
    """There is this error, and not a single file."""
    with pytest.raises(error, match=match):
        yield
    assert not folder.exists()


Change = Callable[[Answer], None]


def at(path: str, offset: int = 0) -> Callable[[Change], Fault]:
    """Make a fault of a change: it strikes the answer that holds this byte of a file whose path ends like this."""

    def fault_of(change: Change) -> Fault:
        @wraps(change)
        def fault(answer: Answer) -> bool:
            struck = answer.path.endswith(path) and answer.start <= offset < answer.start + len(answer.body)
            if struck:
                change(answer)
            return struck

        return fault

    return fault_of


fourth_chunk = at("model.safetensors", 3 * CHUNK_SIZE)


def reset_at(offset: int) -> Fault:
    """The connection is reset when this byte of the weights is due."""

    @at("model.safetensors", offset)
    def reset(answer: Answer) -> None:
        answer.sent, answer.end = offset - answer.start, "reset"

    return reset


@fourth_chunk
def flipped(answer: Answer) -> None:
    """One bit is another."""
    answer.body = answer.body[:100] + bytes([answer.body[100] ^ 0b1000]) + answer.body[101:]


@fourth_chunk
def cut_short(answer: Answer) -> None:
    """The body ends before its end."""
    answer.sent, answer.end = 4000, "closed"


@fourth_chunk
def misplaced(answer: Answer) -> None:
    """It says that it is the third."""
    answer.headers["Content-Range"] = f"bytes {2 * CHUNK_SIZE}-{3 * CHUNK_SIZE - 1}/{len(WEIGHTS)}"


@fourth_chunk
def hung(answer: Answer) -> None:
    """Nothing more is heard of it after its first bytes."""
    answer.sent, answer.end = 100, "silent"


@fourth_chunk
def mute(answer: Answer) -> None:
    """Nothing is heard of it at all."""
    answer.end = "mute"


def saying(status: int, code: str, path: str = "") -> Fault:
    """S3 refuses whatever ends like this."""

    @at(path)
    def refuse(answer: Answer) -> None:
        answer.status, answer.body = status, f"<Error><Code>{code}</Code></Error>".encode()

    return refuse


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that hangs is given up soon."""
    monkeypatch.setattr(wire, "SILENCE_SECONDS", 0.3)


@pytest.mark.parametrize("tenth", range(10))
def test_a_connection_reset_at_any_tenth_of_the_transfer_is_opened_anew(proxy: Proxy, folder: Path, tenth: int) -> None:
    proxy.faults = [once(reset_at(len(WEIGHTS) * tenth // 10))]
    assert load(folder) == FILES
    assert proxy.struck == 1


def test_connections_reset_at_every_tenth_are_opened_anew(proxy: Proxy, folder: Path) -> None:
    proxy.faults = [once(reset_at(len(WEIGHTS) * tenth // 10)) for tenth in range(10)]
    assert load(folder) == FILES
    assert proxy.struck == 10


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("fault", [flipped, cut_short, misplaced, hung, mute])
def test_what_goes_wrong_once_is_read_again(proxy: Proxy, folder: Path, fault: Fault) -> None:
    proxy.faults = [once(fault)]
    assert load(folder) == FILES
    assert proxy.struck == 1


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        (reset_at(20_000), StoreUnavailableError, "ConnectionResetError"),
        (flipped, CorruptModelError, r"model\.safetensors, bytes 12288 to 16383 do not have the SHA-256"),
        (cut_short, StoreUnavailableError, r"model\.safetensors: 4096 bytes were promised, 4000 arrived"),
        (misplaced, StoreUnavailableError, "asked for bytes 12288-16383/40000, got 'bytes 8192-12287/40000'"),
        (hung, StoreUnavailableError, "TimeoutError: timed out"),
        (mute, StoreUnavailableError, "TimeoutError: timed out"),
        (saying(503, "SlowDown", "tokenizer.json"), StoreUnavailableError, "503 SlowDown"),
        (saying(503, "SlowDown"), StoreUnavailableError, "aliases/live cannot be had right now: S3 answered 503"),
    ],
)
def test_what_goes_wrong_for_good_is_given_up_and_named(
    proxy: Proxy, folder: Path, fault: Fault, error: type[RegistryError], match: str
) -> None:
    proxy.faults = [fault]
    with refused(folder, error, match):
        load(folder)
    assert proxy.struck == ATTEMPTS

    proxy.faults = []
    assert load(folder) == FILES


def test_a_store_that_is_overloaded_for_a_while_is_waited_for(proxy: Proxy, folder: Path) -> None:
    proxy.faults = [once(saying(503, "SlowDown")) for _ in range(ATTEMPTS - 1)]
    assert load(folder) == FILES


@pytest.mark.parametrize("path", ["aliases/live", MANIFEST, "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize(
    ("code", "match"),
    [("AccessDenied", "where s3:ListBucket is not granted"), ("RequestTimeTooSkewed", "this machine's clock is wrong")],
)
def test_what_is_refused_is_asked_for_once(proxy: Proxy, folder: Path, path: str, code: str, match: str) -> None:
    proxy.faults = [saying(403, code, path)]
    with refused(folder, AccessDeniedError, f"{path} may not be accessed: S3 answered 403 {code} .{match}"):
        load(folder)
    assert proxy.struck == 1


def test_a_store_whose_name_nobody_knows_is_unavailable(
    folder: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://nobody.invalid")
    with refused(folder, StoreUnavailableError, "aliases/live: the store did not answer as it should: gaierror"):
        load(folder)


def test_weights_replaced_half_way_are_not_loaded(proxy: Proxy, folder: Path, store: WritableStore) -> None:
    key = file_key("gpt2", manifest_of(FILES).version, "model.safetensors")

    @at("model.safetensors")
    def replace(answer: Answer) -> None:
        """The first chunk is on its way; the others are not yet asked for."""
        store.client.put_object(Bucket=store.bucket, Key=key, Body=WEIGHTS[::-1])

    proxy.faults = [once(replace)]
    with refused(folder, CorruptModelError, r"model\.safetensors was replaced while it was read"):
        load(folder)


def test_a_manifest_with_other_hashes_lets_no_other_bytes_in(proxy: Proxy, folder: Path, store: WritableStore) -> None:
    """Whoever can write to the bucket, but not move the alias, cannot change what is served."""
    manifest, others = manifest_of(FILES), WEIGHTS[::-1]
    said = json.loads(manifest.to_json())
    (weights,) = (file for file in said["files"] if file["path"] == "model.safetensors")
    weights["chunks"] = [sha256(others[start : start + CHUNK_SIZE]) for start in range(0, len(others), CHUNK_SIZE)]
    for path, data in ((MANIFEST, json.dumps(said).encode()), ("model.safetensors", others)):
        store.client.put_object(Bucket=store.bucket, Key=file_key("gpt2", manifest.version, path), Body=data)
    with refused(folder, CorruptModelError, "version must be the digest of the files"):
        load(folder)


def test_a_manifest_replaced_while_the_model_is_read_changes_nothing(
    proxy: Proxy, folder: Path, store: WritableStore
) -> None:
    key = file_key("gpt2", manifest_of(FILES).version, MANIFEST)

    @at(MANIFEST)
    def replace(answer: Answer) -> None:
        store.client.put_object(Bucket=store.bucket, Key=key, Body=b"{}")

    proxy.faults = [once(replace)]
    assert load(folder) == FILES
    assert proxy.struck == 1
    with pytest.raises(CorruptModelError, match="manifest: schema is missing"):
        ModelSource("models-bucket", "gpt2", "live").load()


@pytest.mark.parametrize("path", ["aliases/live", MANIFEST, "model.safetensors"])
def test_an_alias_moved_meanwhile_counts_for_the_next_start(
    proxy: Proxy, folder: Path, store: WritableStore, path: str
) -> None:
    newer = put_version(store, {"config.json": b"[]"}, alias="canary")

    @at(path)
    def move(answer: Answer) -> None:
        store.client.put_object(Bucket=store.bucket, Key=alias_key("gpt2", "live"), Body=newer.version.encode())

    proxy.faults = [once(move)]
    assert load(folder) == FILES
    assert proxy.struck == 1
    assert load(folder) == {"config.json": b"[]"}
    assert [copy.name for copy in folder.iterdir()] == [newer.version]


def test_a_full_disk_costs_the_copy_alone(proxy: Proxy, folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(WEIGHTS) // 2, hard))  # no file takes more
    try:
        assert load(folder) == FILES
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(folder.iterdir()) == []


def test_a_disk_that_cannot_be_written_to_costs_the_copy_alone(proxy: Proxy) -> None:
    nowhere = Path("/proc/gpt2-models")  # not even root makes a folder there
    assert load(nowhere) == FILES
    assert not nowhere.exists()
