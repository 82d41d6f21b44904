"""The memory of a process, and what fits into it."""

from dataclasses import replace
from typing import get_args

from handler.memory import PROCESS_BYTES, Memory
from handler.registry.manifest import ManifestFile
from handler.settings import EngineName
from tests.services import MANIFEST, make_settings

MODEL = replace(MANIFEST, files=(ManifestFile("model.safetensors", 100, "0" * 64, ("0" * 64,)),))


def test_it_is_what_the_settings_say_or_the_function_has_or_the_machine() -> None:
    function = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}
    assert Memory.of(make_settings(memory_mb=500, kv_cache_mb=7), function) == Memory(500_000_000, 7_000_000)
    assert Memory.of(make_settings(), function).total == 3008 * 1024 * 1024
    assert Memory.of(make_settings(), {}).total > 500_000_000


def test_on_a_gpu_it_is_the_gpus_whatever_the_machine_has() -> None:
    def of(**changes: object) -> int:
        return Memory.of(make_settings(**{"engine": "continuous", "device": "cuda"} | changes), {}, lambda: 24).total

    assert (of(), of(device="auto"), of(engine="transformers"), of(memory_mb=1)) == (24, 24, 24, 1_000_000)
    assert min(of(device="cpu"), of(engine="native")) > 500_000_000
    nothing = Memory.of(make_settings(engine="continuous"), {}, lambda: 0)
    assert nothing.total == Memory.of(make_settings(), {}).total


def test_models_fit_with_their_files_and_their_caches() -> None:
    memory = Memory(total=PROCESS_BYTES + 2 * (100 + 10), kv_cache=10)
    assert memory.fits([MODEL, MODEL])
    assert not memory.fits([MODEL, MODEL, MODEL])
    assert not Memory(memory.total - 1, memory.kv_cache).fits([MODEL, MODEL])


def test_weights_of_16_bits_are_widened_beside_their_file() -> None:
    half, packed = replace(MODEL, dtype="BF16"), replace(MODEL, dtype="U8", layout="packed-int8-v1")
    memory = Memory(total=PROCESS_BYTES + 3 * 100 + 10, kv_cache=10)
    assert memory.fits([half])
    assert not Memory(memory.total - 1, memory.kv_cache).fits([half])
    assert memory.fits([packed, replace(MODEL, files=())])


def test_packed_weights_are_unpacked_beside_their_file_for_the_engines_in_torch() -> None:
    packed = replace(MODEL, dtype="U8", layout="packed-int8-v1")
    unpacked = 4 * packed.architecture.parameters
    assert Memory(PROCESS_BYTES + 100 + unpacked, kv_cache=0, unpacks=True).fits([packed])
    assert not Memory(PROCESS_BYTES + 99 + unpacked, kv_cache=0, unpacks=True).fits([packed])
    unpacking = {engine for engine in get_args(EngineName) if Memory.of(make_settings(engine=engine), {}).unpacks}
    assert unpacking == {"reference", "transformers", "continuous"}
