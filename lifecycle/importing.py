"""Import a transformers checkpoint, from the Hugging Face hub or a folder, as a checkpoint folder of this project.

Checkpoints of all ages become the one form that engines read, and what cannot become it is refused by name.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from handler.errors import CorruptModelError, InvalidRequestError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.tokenizer import Tokenizer
from lifecycle.causal import check_config, is_gpt2
from lifecycle.checkpoint import (
    CHAT_TEMPLATE,
    CONFIG,
    GENERATION,
    PROVENANCE,
    TOKENIZER,
    WEIGHTS,
    Checkpoint,
    Provenance,
    check_tensors,
    read_checkpoint,
    read_json,
    read_provenance,
    read_tokenizer,
    write_json,
)
from lifecycle.folders import check_free, complete_or_absent
from lifecycle.naming import EMBEDDING, canonical_tensors, map_weights, without_padding
from lifecycle.weights import write_tensors

_TOKENIZER_CONFIG = "tokenizer_config.json"
_MASKS = ("BOOL", "U8")


def import_model(source: str, out: Path) -> Checkpoint:
    """Import a checkpoint.

    Args:
        source: a folder that holds a transformers checkpoint, or the name of a model on the hub.
        out: the checkpoint folder to make; it must not exist or be empty.

    Returns:
        The checkpoint folder, checked.

    Raises:
        InvalidRequestError: the source is neither, or `out` holds files.
        HubUnreachableError: the hub does not answer within a few seconds.
        NotInRegistryError: the hub has no such model.
        AccessDeniedError: the hub does not hand it out.
        UnsupportedModelError: something about the model is not implemented; the message names it.
        CorruptModelError: a file is missing or damaged, or does not fit the others.
    """
    check_free(out)
    folder = Path(source).expanduser()
    if (folder / CONFIG).is_file():
        return _convert(folder, out, _provenance(folder))
    if folder.is_dir() or source.startswith((".", "/", "~")):
        raise InvalidRequestError(f"source: {source} is not a folder with a {CONFIG}", param="source")
    # Imported here because importing it takes longer than importing a small folder.
    from lifecycle.hub import fetch  # noqa: PLC0415

    fetched = fetch(source)
    return _convert(fetched.folder, out, Provenance(fetched.source, fetched.license, None, {}, {}))


def _provenance(folder: Path) -> Provenance:
    """What the folder says of itself, if it does: importing changes the form of the weights and not what they are."""
    path = folder / PROVENANCE
    return read_provenance(path) if path.exists() else Provenance(folder.resolve().name, None, None, {}, {})


def _convert(folder: Path, out: Path, provenance: Provenance) -> Checkpoint:
    """Make the checkpoint folder from the files of a transformers checkpoint."""
    original = read_json(folder / CONFIG)
    generation = read_json(folder / GENERATION) if (folder / GENERATION).exists() else {}
    with complete_or_absent(out) as new:
        (_convert_gpt2 if is_gpt2(original) else _convert_causal)(folder, original, generation, new)
        if template := _chat_template(folder):
            (new / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
        write_json(new / PROVENANCE, asdict(provenance))
        checkpoint = read_checkpoint(new)
    return replace(checkpoint, folder=out)


def _convert_gpt2(folder: Path, original: Mapping[str, Any], generation: dict[str, Any], new: Path) -> None:
    """Write configuration, tokenizer and weights in the form that the engines for GPT-2 read."""
    # Before n_positions there was n_ctx; where both are given, n_ctx may be a leftover.
    original = {"n_positions": original.get("n_ctx", 1024), **original}
    config = ModelConfig.from_json(original)
    tensors = canonical_tensors(map_weights(folder))
    dtype = check_tensors(tensors, config)
    _convert_tokenizer(folder, new / TOKENIZER)
    tokenizer = read_tokenizer(new / TOKENIZER)
    tensors[EMBEDDING] = without_padding(tensors[EMBEDDING], tokenizer.vocabulary_size)
    specials = _special_tokens(original, tokenizer)
    write_json(new / CONFIG, _config_json(original, config, tokenizer.vocabulary_size, dtype) | specials)
    write_json(new / GENERATION, generation | _special_tokens(specials | generation, tokenizer))
    write_tensors(new / WEIGHTS, {name: tensors[name] for name in config.tensor_shapes()})


def _convert_causal(folder: Path, original: Mapping[str, Any], generation: dict[str, Any], new: Path) -> None:
    """Write the files of another architecture as they are, the shards of the weights as one."""
    check_config(original)
    if not (folder / TOKENIZER).exists():
        raise CorruptModelError(f"{folder} has no {TOKENIZER}: save its fast tokenizer there with transformers")
    shutil.copyfile(folder / TOKENIZER, new / TOKENIZER)
    specials = {key: original[key] for key in ("bos_token_id", "eos_token_id") if original.get(key) is not None}
    write_json(new / CONFIG, original)
    write_json(new / GENERATION, specials | generation)
    # What is no floating-point number is no weight, but a mask that some checkpoints keep.
    weights = {name: tensor for name, tensor in map_weights(folder).items() if tensor.dtype not in _MASKS}
    write_tensors(new / WEIGHTS, dict(sorted(weights.items())))


def _convert_tokenizer(folder: Path, new: Path) -> None:
    """Copy `tokenizer.json`, or have transformers make it from the two files that preceded it."""
    if (folder / TOKENIZER).exists():
        shutil.copyfile(folder / TOKENIZER, new)
        return
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).exists():
            raise CorruptModelError(f"{folder} has neither {TOKENIZER} nor {name}")
    # Imported here because it takes seconds, and hardly any checkpoint needs it.
    from transformers import GPT2Tokenizer  # noqa: PLC0415

    GPT2Tokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.save(str(new))


def _special_tokens(document: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """What the document says the text begins and ends with, or the end-of-text token where that is no token at all.

    transformers writes GPT-2's 50256 into the configuration of a model of any size.
    """
    known = range(tokenizer.vocabulary_size)

    def usable(value: object) -> bool:
        if isinstance(value, list):
            return value != [] and all(map(usable, value))
        return type(value) is int and value in known

    given = {key: document.get(key) for key in ("bos_token_id", "eos_token_id")}
    return {key: value if usable(value) else tokenizer.end_of_text for key, value in given.items()}


def _chat_template(folder: Path) -> str | None:
    """The chat template, from its own file or from where it was kept before there was one."""
    if (folder / CHAT_TEMPLATE).exists():
        return (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
    if not (folder / _TOKENIZER_CONFIG).exists():
        return None
    template = read_json(folder / _TOKENIZER_CONFIG).get("chat_template")
    if template is not None and not isinstance(template, str):
        raise UnsupportedModelError(f"{folder / _TOKENIZER_CONFIG}: chat_template must be one template, not several")
    return template


def _config_json(original: Mapping[str, Any], config: ModelConfig, tokens: int, dtype: str) -> dict[str, Any]:
    """The configuration in the form transformers reads, without what it holds for other tasks."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype],
        "activation_function": original.get("activation_function", "gelu_new"),
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_inner": config.inner_width,
        "n_layer": config.layers,
        "n_positions": config.context_length,
        "tie_word_embeddings": True,
        "vocab_size": tokens,
    }
