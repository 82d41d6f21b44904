"""The transformers engine, held against transformers' own models and against itself in other company."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from handler.errors import ContextLengthExceededError, CorruptModelError, EngineError, UnsupportedModelError
from handler.inference.causal import CausalEngine, causal_engine
from handler.inference.causal_model import find_device, load_model, read_config
from handler.inference.slotted_attention import ATTENTION
from handler.inference.weights import Tensor
from tests.causal_models import CONFIGS, GROUPED, SIZES, engine_of, random_model, tensors_of
from tests.transformers_peer import Model, assert_same_greedy_text, close, greedy, logits_of, run, take

PROMPTS = [[5], [17, 0, 255, 3, 3, 90, 41], [100, 101], list(range(20, 52))]


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest) -> tuple[CausalEngine, Model]:
    """An engine, and transformers' model with the same weights and an attention of its own."""
    config = CONFIGS[request.param]
    model = random_model(config)
    return engine_of(model, config), model


class TestAgainstTransformers:
    def test_logits(self, pair: tuple[CausalEngine, Model]) -> None:
        engine, model = pair
        for prompt in PROMPTS:
            expected = logits_of(model, prompt)
            assert expected.std() > 0.1, "logits that are all alike would agree with anything"
            close(run(engine, prompt), expected)

    def test_greedy_text_up_to_the_end_of_the_context(self, pair: tuple[CausalEngine, Model]) -> None:
        engine, model = pair
        assert_same_greedy_text(engine, model, PROMPTS[1], engine.context_length - len(PROMPTS[1]))

    def test_a_ragged_batch_in_pieces(self, pair: tuple[CausalEngine, Model]) -> None:
        """Beginnings and pieces behind others in one step, then tokens of all sequences at once."""
        engine, model = pair
        expected = [logits_of(model, prompt) for prompt in PROMPTS]
        slots = [take(engine) for _ in PROMPTS]
        close(engine.prefill([slots[3]], [PROMPTS[3][:9]])[0], expected[3][8:9])
        chunks = [PROMPTS[0], PROMPTS[1][:5], PROMPTS[2][:1], PROMPTS[3][9:29]]
        for mine, row in zip(engine.prefill(slots, chunks), [(0, 0), (1, 4), (2, 0), (3, 28)], strict=True):
            close(mine[0], expected[row[0]][row[1]])
        decoded = engine.decode(slots[1:], [PROMPTS[1][5], PROMPTS[2][1], PROMPTS[3][29]])
        for mine, row in zip(decoded, [(1, 5), (2, 1), (3, 29)], strict=True):
            close(mine, expected[row[0]][row[1]])
        decoded = engine.decode([slots[3], slots[1]], [PROMPTS[3][30], PROMPTS[1][6]])
        close(decoded[0], expected[3][30])
        close(decoded[1], expected[1][6])
        for slot in slots:
            engine.release(slot)

    def test_a_fork_goes_its_own_way(self, pair: tuple[CausalEngine, Model]) -> None:
        engine, model = pair
        prompt, other = PROMPTS[3], [9, 8, 7]
        original = take(engine)
        engine.prefill([original], [prompt])
        copy = engine.fork(original, 10)
        assert copy is not None
        close(engine.prefill([copy], [other], all_logits=True)[0], logits_of(model, prompt[:10] + other)[10:])
        engine.truncate(original, 20)
        close(engine.decode([original], [1])[0], logits_of(model, [*prompt[:20], 1])[20])
        engine.release(original)
        engine.release(copy)


@pytest.fixture(scope="module")
def llama() -> Model:
    return random_model(CONFIGS["llama"])


def build(model: Model, **changes: Any) -> CausalEngine:
    """A llama's engine, something about its configuration changed."""
    config = CONFIGS["llama"] | changes
    return causal_engine(config, tensors_of(model), device="cpu", kv_cache_bytes=10**6, threads=1)


def test_a_slot_that_was_used_holds_nothing_back(llama: Model) -> None:
    engine = engine_of(llama, CONFIGS["llama"], slots=1)
    expected = run(engine, PROMPTS[1]).copy()
    run(engine, PROMPTS[3])
    assert np.array_equal(run(engine, PROMPTS[1]), expected)


def test_what_was_no_number_is_not_left_to_the_next_one_in_a_slot(llama: Model) -> None:
    engine = build(llama)
    slots = [take(engine), take(engine)]
    keys = engine._model.model.layers[0].self_attn.k_proj
    weight = keys.weight
    keys.weight = torch.nn.Parameter(torch.full_like(weight, torch.nan))
    with pytest.raises(EngineError, match="not all finite numbers"):
        engine.prefill(slots, [PROMPTS[3], PROMPTS[3]])
    keys.weight = weight
    for slot in slots:
        engine.truncate(slot, 0)
    engine.prefill(slots, [PROMPTS[0], PROMPTS[3]])
    # A step of both is as long as the longer one, and passes over what the shorter one's slot held.
    close(engine.decode(slots, [17, 3])[0], logits_of(llama, [*PROMPTS[0], 17])[-1])


def test_there_are_as_many_slots_as_the_cache_has_room_for(llama: Model) -> None:
    engine = engine_of(llama, CONFIGS["llama"], slots=3)  # fewer heads of keys and values make room for more
    assert [engine.acquire() is not None for _ in range(4)] == [True, True, True, False]
    with pytest.raises(UnsupportedModelError, match=r"KV_CACHE_MB .* takes 16,384 bytes; given: 1,000"):
        causal_engine(CONFIGS["llama"], tensors_of(llama), device="cpu", kv_cache_bytes=1000)


def test_no_more_positions_than_will_be_asked_for_take_room(llama: Model) -> None:
    engine = engine_of(llama, CONFIGS["llama"], slots=2, context_limit=16)
    assert (engine.context_length, engine.vocabulary_size) == (16, 300)
    assert [engine.acquire() is not None for _ in range(3)] == [True, True, False]
    with pytest.raises(ContextLengthExceededError, match="given: 0 and 17 more"):
        engine.prefill([0], [list(range(17))])


def test_weights_of_32_bits_are_not_copied(llama: Model) -> None:
    """The engine sees a change of the file's bytes, so it has no others."""
    tensors = tensors_of(llama)
    buffer = bytearray(tensors["model.norm.weight"].data)
    tensors["model.norm.weight"] = Tensor("F32", (32,), memoryview(buffer))
    engine = causal_engine(CONFIGS["llama"], tensors, device="cpu", kv_cache_bytes=10**6, threads=1)
    assert run(engine, PROMPTS[1]).std() > 0.1
    buffer[:] = bytes(len(buffer))
    assert not run(engine, PROMPTS[1]).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits_are_computed_with_in_32(dtype: torch.dtype) -> None:
    model = random_model(CONFIGS["llama"])
    tensors = tensors_of(model, dtype)
    engine = causal_engine(CONFIGS["llama"], tensors, device="cpu", kv_cache_bytes=10**6, threads=1)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    close(run(engine, PROMPTS[1]), logits_of(model, PROMPTS[1]))


@pytest.mark.parametrize(("narrow", "size"), [(True, 2), (False, 4)])
def test_a_gpu_may_compute_in_16_bits_with_weights_that_had_fewer(narrow: bool, size: int, llama: Model) -> None:
    """Seen on a device without memory, where the weights have their types, too."""
    config = read_config(CONFIGS["llama"])
    model = load_model(config, tensors_of(llama), device="meta", attention=ATTENTION, narrow=narrow)
    assert {parameter.dtype.itemsize for parameter in model.parameters()} == {size}


def test_gpt2_of_the_original_names_is_run_too(llama: Model) -> None:
    model = random_model(CONFIGS["gpt2"])
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors_of(model).items()}
    engine = causal_engine(CONFIGS["gpt2"], tensors, device="cpu", kv_cache_bytes=10**6, threads=1)
    tokens, _ = greedy(engine, PROMPTS[1], 5)
    assert tokens == greedy(engine_of(model, CONFIGS["gpt2"]), PROMPTS[1], 5)[0]


def test_a_configuration_is_read_and_not_changed() -> None:
    document = CONFIGS["llama"] | {"rope_scaling": {"type": "linear", "factor": 2.0}}
    before = copy.deepcopy(document)
    assert read_config(document).rope_parameters["rope_type"] == "linear"
    assert document == before


def test_a_gpu_that_is_not_there_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == "cpu"
    with pytest.raises(UnsupportedModelError, match="DEVICE=cuda needs a GPU"):
        find_device("cuda")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"model_type": "lama"}, "model_type must be one that transformers knows, given 'lama'"),
        ({}, "model_type must be one that transformers knows, given None"),
        ({"model_type": "t5"}, "model_type 't5' is not that of a causal language model"),
        ({"model_type": "llama", "auto_map": {"AutoModel": "mine.Model"}}, "auto_map is not implemented"),
        ({"model_type": "llama", "quantization_config": {"bits": 4}}, "quantization_config is not implemented"),
        ({"model_type": "bloom"}, "transformers' BloomForCausalLM cannot be given another attention"),
        ({"model_type": "mamba"}, "transformers' MambaForCausalLM cannot be given another attention"),
        (
            {"model_type": "llama", "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type 'dynamic' is not implemented",
        ),
        (
            {"model_type": "lfm2", "num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
            "layer_types may hold full_attention, sliding_attention, given 'conv'",
        ),
    ],
)
def test_configurations_that_cannot_be_served_are_refused_by_name(document: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read_config(document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"hidden_size": "wide"}, {"num_attention_heads": 5}, {"rope_parameters": {"rope_type": "?"}}]
)
def test_a_configuration_that_does_not_fit_itself_is_damaged(llama: Model, changes: dict[str, Any]) -> None:
    with pytest.raises((CorruptModelError, UnsupportedModelError), match=r"config\.json"):
        build(llama, **changes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gemma2", **GROUPED, "head_dim": 8}, "Gemma2Attention asks for .* not implemented: softcap"),
        ({"model_type": "bert", **SIZES}, "BertSelfAttention asks for .* not implemented: is_causal=False"),
        ({"model_type": "nemotron", **GROUPED}, "NemotronAttention .* does not say where its tokens belong"),
        ({"model_type": "diffllama", **GROUPED}, "DiffLlamaAttention keeps more than a key and a value of each token"),
    ],
)
def test_an_attention_of_another_kind_is_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        engine_of(random_model(config), config)


def test_layers_that_keep_nothing_are_missed(llama: Model) -> None:
    model = copy.deepcopy(llama)
    model.config._attn_implementation = ATTENTION
    model.config.num_hidden_layers = 3
    with pytest.raises(UnsupportedModelError, match="LlamaForCausalLM keeps keys and values in 2 of its 3 layers"):
        CausalEngine(model, kv_cache_bytes=10**6)


def test_a_model_that_cannot_read_a_token_is_told_of(llama: Model) -> None:
    model = copy.deepcopy(llama)
    model.config._attn_implementation = ATTENTION
    model.model.layers[0].self_attn.head_dim = 5
    with pytest.raises(UnsupportedModelError, match="LlamaForCausalLM cannot read a token: shape"):
        CausalEngine(model, kv_cache_bytes=10**6)


@pytest.mark.parametrize(
    ("name", "tensor", "error", "message"),
    [
        ("model.norm.weight", None, CorruptModelError, "tensor 'model.norm.weight' is missing"),
        (
            "model.norm.weight",
            Tensor("F32", (16,), memoryview(bytes(64))),
            CorruptModelError,
            "tensor 'model.norm.weight' must have the shape [32], given [16]",
        ),
        (
            "model.norm.weight",
            Tensor("F64", (32,), memoryview(bytes(256))),
            UnsupportedModelError,
            "tensor 'model.norm.weight' must be one of F32, F16, BF16, given F64",
        ),
        (
            "model.extra.weight",
            Tensor("F32", (1,), memoryview(bytes(4))),
            UnsupportedModelError,
            "tensor 'model.extra.weight' is no part of LlamaForCausalLM",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    llama: Model, name: str, tensor: Tensor | None, error: type[Exception], message: str
) -> None:
    tensors = tensors_of(llama)
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    with pytest.raises(error) as caught:
        causal_engine(CONFIGS["llama"], tensors, device="cpu", kv_cache_bytes=10**6, threads=1)
    assert message in str(caught.value)


def test_weights_without_a_tensor_are_damaged() -> None:
    with pytest.raises(CorruptModelError, match="the weights hold no tensor"):
        causal_engine(CONFIGS["llama"], {}, device="cpu", kv_cache_bytes=10**6)
