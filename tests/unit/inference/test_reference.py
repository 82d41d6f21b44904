"""The reference engine, held against transformers' GPT-2 and against itself in other company."""

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from transformers import GPT2Config, GPT2LMHeadModel

from handler.errors import ContextLengthExceededError, CorruptModelError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.reference import ReferenceEngine
from handler.inference.slots import MAX_SLOTS
from handler.inference.weights import Tensor, read_tensors
from tests.models import config_json, random_checkpoint, random_engine
from tests.transformers_peer import Model, assert_same_greedy_text, close, logits_of, run, take

CONFIGS: list[dict[str, Any]] = [
    config_json(),
    config_json(n_inner=50, activation_function="gelu"),
    config_json(n_layer=3, n_head=1, n_embd=7, n_inner=11, vocab_size=257, layer_norm_epsilon=1e-3),
    config_json(n_layer=1, n_head=5, n_embd=65, n_positions=33, activation_function="gelu_pytorch_tanh"),
]
PROMPTS = [[5], [17, 0, 255, 3, 3, 90, 41], [100, 101], list(range(20, 52))]


def peer(config: dict[str, Any], seed: int = 0) -> Model:
    """transformers' model with the weights of `random_engine`."""
    tensors, _ = read_tensors(memoryview(random_checkpoint(ModelConfig.from_json(config), seed)))
    model: Model = GPT2LMHeadModel(GPT2Config(**config, bos_token_id=0, eos_token_id=0))
    model.eval()
    model.transformer.load_state_dict(
        {name: torch.tensor(np.frombuffer(t.data, np.float32).reshape(t.shape)) for name, t in tensors.items()}
    )
    model.tie_weights()
    return model


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
class TestAgainstTransformers:
    def test_logits(self, config: dict[str, Any]) -> None:
        engine, model = random_engine(config), peer(config)
        for prompt in PROMPTS:
            expected = logits_of(model, prompt)
            assert expected.std() > 0.1, "logits that are all alike would agree with anything"
            close(run(engine, prompt), expected)

    def test_greedy_text_up_to_the_end_of_the_context(self, config: dict[str, Any]) -> None:
        # The end of text may be among random tokens; neither side stops at it.
        engine, model = random_engine(config), peer(config)
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        assert_same_greedy_text(engine, model, PROMPTS[1], engine.context_length - len(PROMPTS[1]))

    def test_a_ragged_batch_is_like_one_by_one(self, config: dict[str, Any]) -> None:
        engine = random_engine(config)
        alone = [run(engine, prompt).copy() for prompt in PROMPTS]
        slots = [take(engine) for _ in PROMPTS]
        whole = engine.prefill(slots, [prompt[:-1] or prompt for prompt in PROMPTS], all_logits=True)
        for mine, expected in zip(whole, alone, strict=True):
            close(mine, expected[: len(mine)])
        decoded = engine.decode(slots[1:], [prompt[-1] for prompt in PROMPTS[1:]])
        for row, expected in zip(decoded, alone[1:], strict=True):
            close(row, expected[-1])


@pytest.fixture
def engine() -> ReferenceEngine:
    return random_engine(CONFIGS[0])


@pytest.mark.parametrize("sizes", [[31, 1], [1, 31], [10, 11, 11], [1] * 32, [5, 1, 20, 6]])
def test_a_prompt_in_pieces_is_like_the_whole(engine: ReferenceEngine, sizes: list[int]) -> None:
    prompt = PROMPTS[3]
    expected = run(engine, prompt).copy()
    slot, start = take(engine), 0
    for size in sizes:
        piece = engine.prefill([slot], [prompt[start : start + size]], all_logits=True)[0]
        close(piece, expected[start : start + size])
        start += size


def test_pieces_and_beginnings_share_a_batch(engine: ReferenceEngine) -> None:
    expected = [run(engine, prompt)[-1:].copy() for prompt in PROMPTS]
    slots = [take(engine) for _ in PROMPTS]
    engine.prefill([slots[1], slots[3]], [PROMPTS[1][:4], PROMPTS[3][:30]])
    last = engine.prefill(slots, [PROMPTS[0], PROMPTS[1][4:], PROMPTS[2], PROMPTS[3][30:]])
    assert [logits.shape for logits in last] == [(1, 300)] * 4
    for logits, row in zip(last, expected, strict=True):
        close(logits, row)


def test_a_fork_is_like_a_fresh_prefill(engine: ReferenceEngine) -> None:
    prompt, other = PROMPTS[3], [9, 8, 7]
    original = take(engine)
    engine.prefill([original], [prompt])
    copy = engine.fork(original, 10)
    assert copy is not None

    branched = engine.prefill([copy], [other], all_logits=True)[0].copy()
    went_on = engine.prefill([original], [other], all_logits=True)[0].copy()
    engine.release(original)
    engine.release(copy)

    close(branched, run(engine, prompt[:10] + other)[10:])
    close(went_on, run(engine, prompt + other)[len(prompt) :])


def test_a_slot_that_was_used_holds_nothing_back() -> None:
    engine = random_engine(CONFIGS[0], slots=1)
    expected = run(engine, PROMPTS[1]).copy()
    run(engine, PROMPTS[3])
    assert np.array_equal(run(engine, PROMPTS[1]), expected)


def test_slots_run_out_and_come_back() -> None:
    engine = random_engine(CONFIGS[0], slots=3)
    slots = [take(engine) for _ in range(3)]
    assert len(set(slots)) == 3
    assert engine.acquire() is None
    assert engine.fork(slots[0], 0) is None
    engine.release(slots[1])
    assert engine.acquire() == slots[1]


def test_slots_are_as_many_as_the_cache_has_room_for() -> None:
    config = ModelConfig.from_json(CONFIGS[0])
    tensors, _ = read_tensors(memoryview(random_checkpoint(config)))
    per_sequence = 2 * 2 * 64 * 32 * 4  # layers, keys and values, context, width, bytes

    def slots(kv_cache_bytes: int) -> int:
        engine = ReferenceEngine(config, tensors, kv_cache_bytes=kv_cache_bytes, threads=1)
        taken = sum(engine.acquire() is not None for _ in range(100))
        assert taken == engine.slot_count
        return taken

    assert slots(per_sequence) == 1
    assert slots(3 * per_sequence - 1) == 2
    assert slots(1_000_000_000) == MAX_SLOTS
    with pytest.raises(UnsupportedModelError, match=r"KV_CACHE_MB .* takes 32,768 bytes; given: 1,000"):
        slots(1_000)


def test_what_overruns_the_context_is_refused_and_changes_nothing(engine: ReferenceEngine) -> None:
    full, other = take(engine), take(engine)
    tokens = [token % 300 for token in range(64)]
    last = engine.prefill([full], [tokens])[0].copy()
    with pytest.raises(ContextLengthExceededError, match=r"at most 64 tokens, .* given: 64 and 1 more"):
        engine.decode([other, full], [1, 1])
    with pytest.raises(ContextLengthExceededError, match="given: 0 and 65 more"):
        engine.prefill([other], [[*tokens, 1]])
    close(engine.prefill([other], [tokens])[0], last)


def test_calls_that_make_no_sense_are_refused(engine: ReferenceEngine) -> None:
    slot = take(engine)
    with pytest.raises(ValueError, match="has no tokens"):
        engine.prefill([slot], [[]])
    with pytest.raises(ValueError, match="each slot takes one chunk"):
        engine.decode([slot, slot], [1, 2])
    with pytest.raises(ValueError, match="each slot takes one chunk"):
        engine.prefill([slot], [[1], [2]])
    with pytest.raises(ValueError, match=f"slot {slot} holds 0 tokens, not 1"):
        engine.fork(slot, 1)


def test_weights_of_32_bits_are_not_copied() -> None:
    """The engine sees a change of the file's bytes, so it has no others."""
    config = ModelConfig.from_json(CONFIGS[0])
    buffer = bytearray(random_checkpoint(config))
    tensors, _ = read_tensors(memoryview(buffer))
    engine = ReferenceEngine(config, tensors, kv_cache_bytes=1_000_000, threads=1)
    before = run(engine, PROMPTS[1]).copy()
    tensors["wte.weight"].data[:] = bytes(len(tensors["wte.weight"].data))
    assert before.std() > 0.1
    assert not run(engine, PROMPTS[1]).any()


def test_weights_may_lie_in_memory_that_is_read_only_and_not_aligned() -> None:
    config = ModelConfig.from_json(CONFIGS[0])
    data = random_checkpoint(config)
    tensors, _ = read_tensors(memoryview(b"x" + data)[1:].toreadonly())
    engine = ReferenceEngine(config, tensors, kv_cache_bytes=1_000_000, threads=1)
    close(run(engine, PROMPTS[1]), run(random_engine(CONFIGS[0]), PROMPTS[1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits_are_computed_with_in_32(dtype: torch.dtype) -> None:
    model = peer(CONFIGS[0]).to(dtype)
    buffer = memoryview(save(dict(model.transformer.state_dict())))
    tensors, _ = read_tensors(buffer)
    engine = ReferenceEngine(ModelConfig.from_json(CONFIGS[0]), tensors, kv_cache_bytes=1_000_000, threads=1)
    close(run(engine, PROMPTS[1]), logits_of(model.float(), PROMPTS[1]))


@pytest.mark.parametrize(
    ("name", "tensor", "error", "message"),
    [
        ("h.1.ln_2.bias", None, CorruptModelError, "tensor 'h.1.ln_2.bias' is missing"),
        (
            "wpe.weight",
            Tensor("F32", (32, 64), memoryview(bytes(8192))),
            CorruptModelError,
            "tensor 'wpe.weight' must have the shape [64, 32], given [32, 64]",
        ),
        (
            "ln_f.bias",
            Tensor("F64", (32,), memoryview(bytes(256))),
            UnsupportedModelError,
            "tensor 'ln_f.bias' must be one of F32, F16, BF16, given F64",
        ),
        (
            "lm_head.weight",
            Tensor("F32", (0,), memoryview(b"")),
            UnsupportedModelError,
            "tensor 'lm_head.weight' is not part of GPT-2",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    name: str, tensor: Tensor | None, error: type[Exception], message: str
) -> None:
    config = ModelConfig.from_json(CONFIGS[0])
    tensors, _ = read_tensors(memoryview(random_checkpoint(config)))
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    with pytest.raises(error) as caught:
        ReferenceEngine(config, tensors, kv_cache_bytes=1_000_000, threads=1)
    assert message in str(caught.value)
