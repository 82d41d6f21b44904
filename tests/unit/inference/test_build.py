"""Which engine runs which weights."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handler.errors import CorruptModelError, UnsupportedModelError
from handler.inference import library
from handler.inference.build import build_backend, build_engine
from handler.inference.config import ModelConfig
from lifecycle.weights import write_tensors
from tests.causal_models import CONFIGS, random_model, tensors_of
from tests.models import config_json, packed_tensors, random_checkpoint, tokenizer_json

CONFIG = ModelConfig.from_json(config_json())


@pytest.fixture
def packed(tmp_path: Path) -> memoryview:
    write_tensors(tmp_path / "weights", packed_tensors(CONFIG, "packed-int8-v1"), "packed-int8-v1")
    return memoryview((tmp_path / "weights").read_bytes())


@pytest.fixture
def plain() -> memoryview:
    return memoryview(random_checkpoint(CONFIG))


@pytest.fixture
def llama(tmp_path: Path) -> memoryview:
    write_tensors(tmp_path / "llama", tensors_of(random_model(CONFIGS["llama"])))
    return memoryview((tmp_path / "llama").read_bytes())


def name_of(weights: memoryview, engine: str, document: dict[str, Any] | None = None) -> str:
    document = document or config_json()
    built = build_engine(document, weights, engine=engine, kv_cache_bytes=10**7, threads=1)  # type: ignore[arg-type]
    return built.name.split("-")[0]


@pytest.mark.native
def test_packed_weights_are_the_native_engines_and_plain_ones_torchs(packed: memoryview, plain: memoryview) -> None:
    assert {
        (kind, engine): name_of(weights, engine)
        for kind, weights in (("packed", packed), ("plain", plain))
        for engine in ("auto", "reference", "transformers")
    } == {
        ("packed", "auto"): "native",
        ("packed", "reference"): "reference",
        ("packed", "transformers"): "transformers",
        ("plain", "auto"): "reference",
        ("plain", "reference"): "reference",
        ("plain", "transformers"): "transformers",
    }
    assert name_of(packed, "native") == "native"


def test_other_architectures_are_the_transformers_engines_alone(llama: memoryview) -> None:
    assert name_of(llama, "auto", CONFIGS["llama"]) == "transformers"
    assert name_of(llama, "transformers", CONFIGS["llama"]) == "transformers"
    for engine in ("native", "reference"):
        with pytest.raises(UnsupportedModelError, match=f"ENGINE={engine} runs GPT-2 alone, .* the type 'llama'"):
            name_of(llama, engine, CONFIGS["llama"])


def test_plain_weights_cannot_be_had_native(plain: memoryview) -> None:
    with pytest.raises(UnsupportedModelError, match=r"ENGINE=native runs packed weights .* quantize it"):
        name_of(plain, "native")


def test_without_the_library_torch_serves_the_same_weights_and_says_so(
    packed: memoryview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "PATH", tmp_path / "libnative.so")
    library.library.cache_clear()
    try:
        assert name_of(packed, "auto") == "reference"
        assert caplog.messages == ["native engine not loaded, the reference engine serves"]
        assert "libnative.so" in vars(caplog.records[0])["reason"]
        with pytest.raises(UnsupportedModelError, match="the native engine cannot be loaded"):
            name_of(packed, "native")
    finally:
        library.library.cache_clear()


@pytest.mark.native
def test_packed_weights_are_served_without_importing_torch(tmp_path: Path) -> None:
    """Importing it takes longer than everything else between start and first token."""
    write_tensors(tmp_path / "weights", packed_tensors(CONFIG, "packed-int8-v1"), "packed-int8-v1")
    program = f"""
import sys
from pathlib import Path
from handler.inference.build import build_engine
weights = memoryview(Path({str(tmp_path / "weights")!r}).read_bytes())
engine = build_engine({config_json()!r}, weights, engine="auto", kv_cache_bytes=10**7, threads=1)
engine.decode([engine.acquire()], [1])
print(sorted({{"torch", "transformers", "safetensors", "pydantic", "fastapi", "boto3"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_layout_of_the_future_is_refused_by_name(tmp_path: Path) -> None:
    write_tensors(tmp_path / "weights", packed_tensors(CONFIG, "packed-int8-v1"), "packed-int3-v7")
    with pytest.raises(
        UnsupportedModelError, match="the weights' layout is 'packed-int3-v7'; known here: packed-int8-v1"
    ):
        name_of(memoryview((tmp_path / "weights").read_bytes()), "auto")


def test_a_version_without_one_of_its_files_is_damaged(plain: memoryview) -> None:
    files = {"config.json": memoryview(json.dumps(config_json()).encode()), "model.safetensors": plain}
    with pytest.raises(CorruptModelError, match=r"tokenizer\.json is not among .* config\.json, model\.safetensors"):
        build_backend(files, engine="auto", kv_cache_mb=10, threads=1)
    _, backend = build_backend(
        files | {"tokenizer.json": memoryview(tokenizer_json())}, engine="auto", kv_cache_mb=10, threads=1
    )
    backend.close()


def test_a_tokenizer_may_have_no_token_that_the_model_has_not(plain: memoryview) -> None:
    config = memoryview(json.dumps(config_json()).encode())
    files = {"config.json": config, "model.safetensors": plain, "tokenizer.json": memoryview(tokenizer_json(301))}
    with pytest.raises(CorruptModelError, match=r"^tokenizer\.json has 301 tokens, and the model 300$"):
        build_backend(files, engine="auto", kv_cache_mb=10, threads=1)
