"""The native engine against the same arithmetic in float64, and against itself in other company.

What its kernels do one by one is tested in C++ (tests/native). In a whole model one thing more happens: an activation
that lies within float32's error of the middle between two steps may be rounded the other way, which moves every logit
after it by a share of a step. The models here are small and their seeds such that none does.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from handler.errors import ContextLengthExceededError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.library import PATH, library, read_bandwidth
from handler.inference.native import NativeEngine
from handler.inference.protocol import FloatArray
from tests.emulation import emulate
from tests.models import config_json, packed_tensors, unpacked_weights

pytestmark = pytest.mark.native

LAYOUTS = ["packed-int8-v1", "packed-int4-v1"]
FUSED = ("avx512vnni", "avxvnni", "avx2")  # those that multiply and add in one rounding
ISAS = [isa for isa in (*FUSED, "portable") if not PATH.exists() or library().native_isa(isa.encode())]
SHAPES: list[dict[str, Any]] = [
    {"n_layer": 1, "n_embd": 48, "n_head": 3, "n_inner": 100, "activation_function": "gelu"},
    {"n_layer": 1, "n_embd": 40, "n_head": 5, "vocab_size": 33, "n_positions": 50},
    {"n_layer": 1, "n_embd": 64, "n_head": 1},
]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NATIVE_ISA", request.param)
    return str(request.param)


def engine(config: ModelConfig, layout: str, *, threads: int = 2, slots: int = 4) -> NativeEngine:
    return NativeEngine(
        config, packed_tensors(config, layout), layout, kv_cache_bytes=slots * slot_bytes(config), threads=threads
    )


def slot_bytes(config: ModelConfig) -> int:
    """Keys and values in float16; values padded to 16 per head, positions to 16."""
    per_position = config.head_size + -(-config.head_size // 16) * 16
    return config.layers * config.heads * per_position * (-(-config.context_length // 16) * 16) * 2


def tokens(config: ModelConfig, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(3).integers(0, config.vocabulary_size, count)]


def all_logits(engine: NativeEngine, prompt: list[int]) -> FloatArray:
    slot = engine.acquire()
    assert slot is not None
    logits = engine.prefill([slot], [prompt], all_logits=True)[0].copy()
    engine.release(slot)
    return logits


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("changes", SHAPES)
def test_logits_are_those_of_the_same_arithmetic_in_float64(isa: str, layout: str, changes: dict[str, Any]) -> None:
    config = ModelConfig.from_json(config_json(**changes))
    prompt = tokens(config, 20)
    expected = emulate(config, unpacked_weights(config, packed_tensors(config, layout), layout), prompt)
    given = all_logits(engine(config, layout), prompt)
    assert given == pytest.approx(expected, rel=0, abs=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_the_same_bits_in_any_company_in_any_pieces_on_any_threads(isa: str, layout: str) -> None:
    config = ModelConfig.from_json(config_json(n_embd=128, n_positions=80))
    prompt, other = tokens(config, 70), tokens(config, 31)[::-1]
    expected = all_logits(engine(config, layout, threads=1), prompt)
    for threads in (2, 3):
        tested = engine(config, layout, threads=threads)
        slot, neighbour, third = (tested.acquire() for _ in range(3))
        assert slot is not None
        assert neighbour is not None
        assert third is not None
        pieces = []
        for start, stop in pairwise([0, 1, 3, 10, 47, 70]):
            company = tested.prefill(
                [neighbour, slot], [other[start % 7 : start % 7 + 2], prompt[start:stop]], all_logits=True
            )
            pieces.append(company[1].copy())
        assert np.array_equal(np.concatenate(pieces), expected)
        tested.release(third)
        copy = tested.fork(slot, 30)
        assert copy is not None
        decoded = tested.decode([neighbour, copy], [5, prompt[30]])
        assert np.array_equal(decoded[1], expected[30])


def test_instruction_sets_with_fused_multiplication_agree_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig.from_json(config_json(n_embd=128))
    results = set()
    for isa in set(FUSED) & set(ISAS):
        monkeypatch.setenv("NATIVE_ISA", isa)
        results.add(all_logits(engine(config, "packed-int8-v1"), tokens(config, 40)).tobytes())
    assert len(results) == 1


def test_tokens_behind_what_is_kept_are_forgotten() -> None:
    config = ModelConfig.from_json(config_json())
    tested = engine(config, "packed-int8-v1")
    prompt = tokens(config, 20)
    expected = all_logits(tested, prompt)
    slot = tested.acquire()
    assert slot is not None
    tested.prefill([slot], [[*prompt[:10], 1, 2, 3, 4, 5, 6, 7]])
    tested.truncate(slot, 10)
    assert np.array_equal(tested.prefill([slot], [prompt[10:]], all_logits=True)[0], expected[10:])
    with pytest.raises(ValueError, match="holds 20 tokens, not 21"):
        tested.truncate(slot, 21)


def test_the_whole_context_can_be_used_and_no_token_more() -> None:
    config = ModelConfig.from_json(config_json(n_positions=50))
    tested = engine(config, "packed-int8-v1")
    slot = tested.acquire()
    assert slot is not None
    prompt = tokens(config, 50)
    assert np.isfinite(tested.prefill([slot], [prompt])[0]).all()
    with pytest.raises(ContextLengthExceededError, match=r"at most 50 tokens, .* given: 50 and 1 more"):
        tested.decode([slot], [1])


def test_slots_are_as_many_as_fit_the_budget() -> None:
    config = ModelConfig.from_json(config_json())
    tested = engine(config, "packed-int8-v1", slots=2)
    assert tested.slot_count == 2
    assert [tested.acquire(), tested.acquire(), tested.acquire()] == [0, 1, None]
    with pytest.raises(
        UnsupportedModelError, match=r"KV_CACHE_MB must leave room .* which takes 24,576 bytes; given: 9"
    ):
        NativeEngine(config, packed_tensors(config, "packed-int8-v1"), "packed-int8-v1", kv_cache_bytes=9)


def test_an_instruction_set_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATIVE_ISA", "altivec")
    with pytest.raises(UnsupportedModelError, match="NATIVE_ISA=altivec"):
        engine(ModelConfig.from_json(config_json()), "packed-int8-v1")


def test_the_name_tells_bits_and_instruction_set(isa: str) -> None:
    assert engine(ModelConfig.from_json(config_json()), "packed-int4-v1").name == f"native-int4-{isa}"


def test_bandwidth_is_a_plausible_number() -> None:
    assert 0.5 < read_bandwidth(1, megabytes=32, passes=2) < 2000
