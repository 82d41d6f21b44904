"""Filling buffers chunk by chunk: the right bytes or a clear error, whatever the readers meet."""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from handler.errors import AccessDeniedError, CorruptModelError, StoreUnavailableError
from handler.registry.chunks import ATTEMPTS, Filling, persistently
from handler.registry.manifest import ManifestFile
from handler.stages import ColdStart
from tests.manifests import CHUNK_SIZE, manifest_of

WEIGHTS = b"".join(number.to_bytes(4, "little") for number in range(10_000))  # 40,000 bytes, 10 chunks, no two alike
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": bytes(CHUNK_SIZE)}
FOURTH = ("model.safetensors", 3 * CHUNK_SIZE)

Fault = Callable[[memoryview], None]
"""Does to a chunk that was just read what the world does."""


class FakeStore:
    """Files, and the faults that reading certain chunks of them meets: the n-th read the n-th fault, then none."""

    def __init__(self, faults: dict[tuple[str, int], list[Fault]] | None = None, etag: str = '"first"') -> None:
        self.faults = faults or {}
        self.etag = etag
        self.reads: Counter[tuple[str, int]] = Counter()
        self.open = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "FakeStore":
        with self._lock:
            self.open += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.open -= 1

    def read_chunk(
        self, file: ManifestFile, start: int, into: memoryview, *, etag: str | None, begun: Callable[[str], None]
    ) -> None:
        if etag not in (None, self.etag):
            raise CorruptModelError(f"{file.path} was replaced while it was read")
        begun(self.etag)
        into[:] = FILES[file.path][start : start + len(into)]
        with self._lock:
            self.reads[file.path, start] += 1
            faults = self.faults.get((file.path, start), [])
            fault = faults.pop(0) if faults else None
        if fault:
            fault(into)


def fill(store: FakeStore, sleep: Callable[[float], None] = lambda _: None) -> dict[str, bytes]:
    """Read everything from the store, and see that no reader is left open."""
    manifest = manifest_of(FILES)
    buffers = {path: memoryview(bytearray(len(data))) for path, data in FILES.items()}
    filling = Filling(
        manifest,
        buffers,
        lambda: store,
        persistently=partial(persistently, sleep=sleep),
        cold_start=ColdStart(),
    )
    try:
        filling.run(store)
    finally:
        assert store.open == 0
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("load-model")] == []
    return {path: bytes(data) for path, data in buffers.items()}


def unavailable(_chunk: memoryview) -> None:
    raise StoreUnavailableError("the store did not answer")


def one_bit_flipped(chunk: memoryview) -> None:
    chunk[len(chunk) // 2] ^= 1


def access_denied(_chunk: memoryview) -> None:
    raise AccessDeniedError("may not be accessed")


def test_every_chunk_is_read_once() -> None:
    store = FakeStore()
    assert fill(store) == FILES
    assert sum(store.reads.values()) == len(store.reads) == 12


@pytest.mark.parametrize("chunk", [FOURTH, ("model.safetensors", 0), ("config.json", 0)])
@pytest.mark.parametrize("fault", [unavailable, one_bit_flipped])
def test_a_chunk_that_fails_once_is_read_again_alone(fault: Fault, chunk: tuple[str, int]) -> None:
    store = FakeStore({chunk: [fault]})
    waits: list[float] = []
    assert fill(store, waits.append) == FILES
    assert {read: count for read, count in store.reads.items() if count > 1} == {chunk: 2}
    assert len(waits) == 1


def test_waits_grow_and_are_random() -> None:
    waits: list[float] = []
    fill(FakeStore({FOURTH: [unavailable, one_bit_flipped] * 2}), waits.append)
    assert len(waits) == ATTEMPTS - 1
    assert all(0 <= wait <= longest for wait, longest in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True))
    assert len(set(waits)) == len(waits)


@pytest.mark.parametrize("chunk", [FOURTH, ("model.safetensors", 0)])
@pytest.mark.parametrize(
    ("fault", "error", "message", "attempts"),
    [
        (unavailable, StoreUnavailableError, "the store did not answer", ATTEMPTS),
        (one_bit_flipped, CorruptModelError, "do not have the SHA-256", ATTEMPTS),
        (access_denied, AccessDeniedError, "may not be accessed", 1),
    ],
)
def test_what_fails_for_good_is_given_up_and_named(
    fault: Fault, chunk: tuple[str, int], error: type[Exception], message: str, attempts: int
) -> None:
    store = FakeStore({chunk: [fault] * 100})
    with pytest.raises(error, match=message):
        fill(store)
    assert store.reads[chunk] == attempts


def test_the_message_names_the_chunk() -> None:
    with pytest.raises(CorruptModelError, match=r"gpt2 v[0-9a-f]{16}: model\.safetensors, bytes 12288 to 16383 do"):
        fill(FakeStore({FOURTH: [one_bit_flipped] * 100}))


def test_an_object_replaced_while_it_is_read_is_noticed() -> None:
    store = FakeStore()

    def replaced(_chunk: memoryview) -> None:
        store.etag = '"second"'
        raise StoreUnavailableError("and not for the first time")

    store.faults[FOURTH] = [replaced]
    with pytest.raises(CorruptModelError, match=r"model\.safetensors was replaced while it was read"):
        fill(store)


def test_stages_are_told_in_their_order() -> None:
    cold_start = ColdStart()
    buffers = {path: memoryview(bytearray(len(data))) for path, data in FILES.items()}
    store = FakeStore()
    Filling(manifest_of(FILES), buffers, lambda: store, persistently=lambda read: read(), cold_start=cold_start).run(
        store
    )
    assert list(cold_start.stages) == ["first_byte", "transfer", "verification"]
    assert sorted(cold_start.stages.values()) == list(cold_start.stages.values())
