from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bench import weights
from bench.weights import END, PRINTABLE, layout_of, packed_checkpoint, random_checkpoint, step_bytes
from handler.inference.build import build_engine
from handler.inference.config import ModelConfig
from handler.inference.packed import packed_tensors
from lifecycle.checkpoint import read_json
from lifecycle.weights import map_file, map_tensors


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint with one narrow layer, so that it is made in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {"n_layer": 1, "n_head": 2, "n_embd": 64}.items():
            patch.setitem(weights._CONFIG, key, value)
        return random_checkpoint(tmp_path_factory.mktemp("bench"))


def test_any_prompt_is_the_same_tokens_as_text(small: Path) -> None:
    tokenizer = Tokenizer.from_file(str(small / "tokenizer.json"))
    tokens = [int(token) for token in np.random.default_rng(0).permutation(PRINTABLE)]
    assert tokenizer.get_vocab_size() == END + 1
    assert tokenizer.encode(tokenizer.decode(tokens)).ids == tokens


def test_weights_are_random_and_norms_are_not(small: Path) -> None:
    tensors, _ = map_tensors(small / "model.safetensors")
    embeddings = np.frombuffer(tensors["wte.weight"].data, np.float32)
    assert embeddings.std() == pytest.approx(0.02, rel=0.01)
    assert set(np.frombuffer(tensors["h.0.ln_1.weight"].data, np.float32)) == {1.0}
    assert set(np.frombuffer(tensors["h.0.attn.c_attn.bias"].data, np.float32)) == {0.0}


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_weights_can_be_run(small: Path, bits: int) -> None:
    folder = packed_checkpoint(small, layout_of(bits))
    document = read_json(folder / "config.json")
    config = ModelConfig.from_json(document)
    tensors, layout = map_tensors(folder / "model.safetensors")
    assert layout == layout_of(bits)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == packed_tensors(config, layout)
    build_engine(document, map_file(folder / "model.safetensors"), engine="auto", kv_cache_bytes=10_000_000, threads=1)


def test_a_step_reads_all_weights_and_every_sequences_cache() -> None:
    one, two = (step_bytes("packed-int8-v1", sequences, 100) for sequences in (1, 2))
    assert two - one == 100 * 12 * 2 * 768 * 2
    # 124.3 million weights and embeddings less the positions', a byte each, and two per cent of scales and the like.
    parameters = 50257 * 768 + 12 * 12 * 768**2
    assert parameters < one - (two - one) < 1.02 * parameters
