"""Small causal models of several architectures with random weights, made by transformers itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, processors, trainers
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig, PreTrainedTokenizerFast

from handler.inference.alphabet import BYTE_TOKENS, SPACE
from handler.inference.causal import CausalEngine, causal_engine
from handler.inference.weights import Tensor, read_tensors
from tests.transformers_peer import Model

SPECIALS = ("<unk>", "<s>", "</s>")
BEGIN, END = 1, 2
TEMPLATE = "{{ bos_token }}{% for message in messages %}[{{ message.content }}]{% endfor %}{{ eos_token }}"

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GROUPED = SIZES | {"num_key_value_heads": 2}

# By name, the `config.json` of a model small enough to run in milliseconds.
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 64, "vocab_size": 300},
    "gpt_neox": {"model_type": "gpt_neox", **SIZES},
    "llama": {"model_type": "llama", **GROUPED, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", **GROUPED, "sliding_window": 7},
    "opt": {"model_type": "opt", **SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen2": {"model_type": "qwen2", **GROUPED},
    "qwen3": {
        "model_type": "qwen3",
        **GROUPED,
        "head_dim": 12,
        "use_sliding_window": True,
        "sliding_window": 7,
        "max_window_layers": 1,
    },
}


def random_model(config: dict[str, Any], seed: int = 0) -> Model:
    """transformers' own model, its weights so large that the next token depends on those before it."""
    torch.manual_seed(seed)
    parsed = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(parsed)]._from_config(parsed, attn_implementation="eager")  # type: ignore[attr-defined]
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.eos_token_id = None  # among random tokens; neither side stops at it
    model.generation_config.pad_token_id = 0
    return model.eval()


def tensors_of(model: Model, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The weights as a checkpoint has them, what is tied only once."""
    tied = model.all_tied_weights_keys
    weights = {name: tensor.to(dtype) for name, tensor in model.state_dict().items() if name not in tied}
    return read_tensors(memoryview(save(weights)))[0]


def engine_of(
    model: Model, config: dict[str, Any], *, slots: int = 4, context_limit: int | None = None
) -> CausalEngine:
    """The engine with the weights of a model and room for some sequences, on one thread."""
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    heads = getattr(model.config, "num_key_value_heads", heads)
    size = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    per_sequence = layers * 2 * (context_limit or 64) * heads * size * 4
    return causal_engine(
        config,
        tensors_of(model),
        device="cpu",
        kv_cache_bytes=slots * per_sequence,
        context_limit=context_limit,
        threads=1,
    )


def llama_tokenizer() -> Library:
    """A tokenizer in the way of SentencePiece, as Llama has it: `<s>` before a text, bytes for the unknown."""
    library = Library(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    library.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[*SPECIALS, *BYTE_TOKENS], max_token_length=4, show_progress=False
    )
    library.train_from_iterator(["She said that the sea was the sea, and he heard her say so."], trainer)
    document = json.loads(library.to_str())
    document["added_tokens"] = document["added_tokens"][: len(SPECIALS)]  # a byte's token is one like any other
    library = Library.from_str(json.dumps(document))
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    return library


# The same as transformers has it.
TOKENIZER = PreTrainedTokenizerFast(tokenizer_object=llama_tokenizer())  # type: ignore[no-untyped-call]


def llama_folder(folder: Path) -> Path:
    """A llama as it lies on the hub: in shards, with its tokenizer, two ends of text, and a template for chats."""
    model = random_model(CONFIGS["llama"])
    model.generation_config = GenerationConfig(bos_token_id=BEGIN, eos_token_id=[END, 0])  # type: ignore[no-untyped-call]
    model.save_pretrained(folder, max_shard_size="20KB")
    llama_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return folder


def continued(peer: Model, prompt: Sequence[int], count: int) -> str:
    """What transformers writes after a prompt: what its tokens stand for, up to one that ends a text."""
    ids = torch.tensor([list(prompt)])
    written = peer.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count)[0]
    new = [id_ for id_ in written[len(prompt) :].tolist() if id_ not in {END, 0}]
    # Five of the model's ids are no token; nobody has taught it not to write them.
    tokens = [token or "" for token in TOKENIZER.convert_ids_to_tokens(new)]
    data = b"".join(BYTE_TOKENS.get(token) or token.replace(SPACE, " ").encode() for token in tokens)
    return (data.removeprefix(b" ") if list(prompt) == [BEGIN] else data).decode(errors="replace")
