"""The checkpoint folder: the form a model has between being imported or trained and being published.

It holds `config.json`, `tokenizer.json`, `generation_config.json`, `model.safetensors` with the tensor names of
openai-community/gpt2 or, for another architecture, those of transformers, a chat template if the model has one, and
`provenance.json`, which goes into the manifest. `evaluation.json`, if it is there, tells how good exactly these files
are. Whatever else lies in the folder is not looked at.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handler.errors import CorruptModelError, InvalidRequestError, UnsupportedModelError
from handler.inference.config import ModelConfig
from handler.inference.packed import check_packed
from handler.inference.tokenizer import Tokenizer, ends_named_in
from handler.inference.weights import Tensor
from handler.registry.manifest import Architecture
from lifecycle.causal import check_causal, is_gpt2
from lifecycle.revision import code_version
from lifecycle.weights import map_tensors

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
GENERATION = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
WEIGHTS = "model.safetensors"
PROVENANCE = "provenance.json"
EVALUATION = "evaluation.json"

DTYPES = ("F32", "F16", "BF16")
PACKED_DTYPE = "U8"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a checkpoint comes from; the fields are those of the manifest.

    Whoever makes a checkpoint makes this, too, and so notes by which code it was made.
    """

    source: str
    license: str | None
    derived_from: str | None
    evaluation: Mapping[str, Any]
    training: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)
    code: str | None = field(default_factory=code_version)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder that was found sound.

    Attributes:
        folder: where it lies.
        files: the names of the files that make the model, ordered.
        architecture: the model's kind and sizes.
        dtype: the type of the weights, as safetensors names it.
        layout: how they are packed, or None.
        provenance: where it comes from.
    """

    folder: Path
    files: tuple[str, ...]
    architecture: Architecture
    dtype: str
    layout: str | None
    provenance: Provenance

    @property
    def is_gpt2(self) -> bool:
        """Whether it is a GPT-2, which alone can be packed."""
        return self.architecture.model_type == "gpt2"


def read_checkpoint(folder: Path) -> Checkpoint:
    """Check a checkpoint folder from its configuration to its last tensor, and describe it.

    Raises:
        InvalidRequestError: there is no such folder.
        CorruptModelError: a file is missing or damaged, or does not fit the others; the message names it.
        UnsupportedModelError: the configuration, a dtype or the tokenizer asks for what is not implemented.
    """
    if not folder.is_dir():
        raise InvalidRequestError(f"{folder} is not a folder", param="folder")
    document = read_json(folder / CONFIG)
    tensors, layout = map_tensors(folder / WEIGHTS)
    architecture, dtype = (_check_gpt2 if is_gpt2(document) else check_causal)(document, tensors, layout)
    tokens, rows = read_tokenizer(folder / TOKENIZER).vocabulary_size, architecture.vocabulary_size
    # A GPT-2 is imported without the rows that only pad its embedding.
    if tokens > rows or (tokens < rows and is_gpt2(document)):
        raise CorruptModelError(f"{folder}: {TOKENIZER} has {tokens} tokens, the model {rows}")
    _check_special_tokens(folder / CONFIG, document, tokens)
    _check_special_tokens(folder / GENERATION, read_json(folder / GENERATION), tokens)
    files = [CONFIG, TOKENIZER, GENERATION, WEIGHTS]
    if (folder / CHAT_TEMPLATE).exists():
        files.append(CHAT_TEMPLATE)
    return Checkpoint(
        folder=folder,
        files=tuple(sorted(files)),
        architecture=architecture,
        dtype=dtype,
        layout=layout,
        provenance=read_provenance(folder / PROVENANCE),
    )


def _check_gpt2(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], layout: str | None
) -> tuple[Architecture, str]:
    """What these tensors make, and their dtype; raises what `check_tensors`, `check_packed` and `ModelConfig` raise."""
    config = ModelConfig.from_json(document)
    if layout is None:
        dtype = check_tensors(tensors, config)
    else:
        check_packed(config, tensors, layout)
        dtype = PACKED_DTYPE
    architecture = Architecture(
        model_type="gpt2",
        layers=config.layers,
        heads=config.heads,
        width=config.width,
        context_length=config.context_length,
        vocabulary_size=config.vocabulary_size,
        parameters=sum(math.prod(shape) for shape in config.tensor_shapes().values()),
    )
    return architecture, dtype


def check_tensors(tensors: Mapping[str, Tensor], config: ModelConfig) -> str:
    """Check that there are exactly the tensors the configuration asks for, all of one dtype.

    Returns:
        The dtype, as safetensors names it.

    Raises:
        CorruptModelError: a tensor is missing, or has another shape.
        UnsupportedModelError: there is a tensor that this architecture does not have, or a dtype of another kind.
    """
    shapes = config.tensor_shapes()
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise CorruptModelError(f"{WEIGHTS}: {len(missing)} tensors are missing, among them {missing[0]}")
    if unknown := sorted(tensors.keys() - shapes.keys()):
        raise UnsupportedModelError(
            f"{WEIGHTS}: {len(unknown)} tensors are no part of a GPT-2, among them {unknown[0]}"
        )
    dtype = tensors["wte.weight"].dtype
    if dtype not in DTYPES:
        raise UnsupportedModelError(f"{WEIGHTS}: wte.weight is of type {dtype}, which is none of {', '.join(DTYPES)}")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise CorruptModelError(f"{WEIGHTS}: {name} has the shape {tensor.shape}, {CONFIG} asks for {shapes[name]}")
        if tensor.dtype != dtype:
            raise UnsupportedModelError(
                f"{WEIGHTS}: {name} is {tensor.dtype} and wte.weight {dtype}: mixed types are not implemented"
            )
    return dtype


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`; the configuration beside it, where there is one, says what its texts end with.

    Raises:
        CorruptModelError: it is missing or damaged.
        UnsupportedModelError: it is not BPE over bytes, or nothing says what a text ends with.
    """
    beside = (path.with_name(name) for name in (GENERATION, CONFIG))
    return Tokenizer(read_file(path), ends_named_in(*(read_json(other) for other in beside if other.exists())))


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        CorruptModelError: it is missing, is not JSON or holds something else.
    """
    try:
        value = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise CorruptModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorruptModelError(f"{path} must hold a JSON object, not a {type(value).__name__}")
    return value


def read_provenance(path: Path) -> Provenance:
    """Read a `provenance.json`.

    Raises:
        CorruptModelError: it is missing or damaged; the message names the field.
    """
    document = read_json(path)
    given = {
        "source": document.get("source"),
        "license": document.get("license"),
        "derived_from": document.get("derived_from"),
        "evaluation": document.get("evaluation", {}),
        "training": document.get("training", {}),
        "data": document.get("data", {}),
        "code": document.get("code"),
    }
    kinds: dict[str, tuple[type, ...]] = {
        "source": (str,),
        "evaluation": (dict,),
        "training": (dict,),
        "data": (dict,),
    }
    for key, value in given.items():
        if not isinstance(value, kinds.get(key, (str, type(None)))):
            raise CorruptModelError(f"{path}: {key} is missing or of the wrong type: {value!r:.100}")
    return Provenance(**given)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one of a checkpoint folder's JSON files, for people to read too."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_file(path: Path) -> bytes:
    """Read a file of a checkpoint folder.

    Raises:
        CorruptModelError: it is missing.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptModelError(f"{path} is missing") from error


def _check_special_tokens(path: Path, document: Mapping[str, Any], tokens: int) -> None:
    for key in ("bos_token_id", "eos_token_id"):
        value = document.get(key)
        for token in value if isinstance(value, list) else [value]:
            if token is not None and not (type(token) is int and 0 <= token < tokens):
                raise CorruptModelError(f"{path}: {key} must be a token between 0 and {tokens - 1}, not {token!r:.100}")
